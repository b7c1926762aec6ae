// Who stands behind a uid. /etc/subuid lends users ranges of uids (subuid(5), newuidmap(1)): whoever has been
// lent 65,536 of them can be as many users to the kernel, but is one where limits are each single user's.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "policy/accounts.h"

namespace mapcap::policy {

class Subordinates {
 public:
  /// Nobody has any.
  Subordinates() = default;

  /// Lines "OWNER:FIRST:COUNT", OWNER a name or a uid. As for newuidmap, other lines mean nothing. Of ranges
  /// that overlap the first counts. Ranges lent to root count for nothing: its containers' users must not use
  /// up what is root's.
  static Subordinates parse(std::string_view subuid, const Accounts& accounts);
  /// /etc/subuid; where it cannot be read there are none. Looks names up: may block like system_accounts().
  static Subordinates of_machine();

  /// The owner of the range that has `uid`, else `uid` itself.
  [[nodiscard]] std::uint32_t account_of(std::uint32_t uid) const;

 private:
  struct Range {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
    std::uint32_t owner = 0;
  };
  std::vector<Range> ranges_;  ///< Sorted, without overlaps.
};

}  // namespace mapcap::policy
