// Who stands behind a uid. /etc/subuid lends users ranges of uids (subuid(5), newuidmap(1)): whoever has been
// lent 65,536 of them can be as many users to the kernel, but is one where limits are each single user's, and what is
// denied to him is denied to each of them.
//
// Some ranges are lent to nobody's person: those of root, which its containers use, those of `kubelet` and `containers`,
// from which every pod gets a piece, and those of a name that no account has. One account for all of that would let any
// container use up what is the others'; an account for each uid would multiply every limit by 65,536 for any of them.
// There each piece of 65,536 uids, counted from the first of the range, is an account of its own, named by its first uid:
// that is what Kubernetes gives a pod and LXD an isolated container. Of engines that give smaller pieces (podman's
// --userns=auto) the containers within one piece share an account.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "policy/accounts.h"

namespace mapcap::policy {

/// Whose denials hold for a uid that was lent.
struct Lender {
  std::uint32_t uid = 0;
  std::string name;                   ///< What the accounts call him; empty: nothing.
  std::vector<std::uint32_t> groups;  ///< All that he is a member of by the accounts; sorted.
};

class Subordinates {
 public:
  static constexpr std::uint32_t kPiece = 65'536;

  /// Nobody has any.
  Subordinates() = default;

  /// Lines "OWNER:FIRST:COUNT", OWNER a name or a uid. As for newuidmap, other lines mean nothing. Of ranges
  /// that overlap the first counts, but a user's before root's and nobody's.
  static Subordinates parse(std::string_view subuid, const Accounts& accounts);
  /// /etc/subuid; where it cannot be read there are none. Looks names up: may block like system_accounts().
  static Subordinates of_machine();

  /// Who pays for what `uid` takes: the owner of the range that has it, or the first uid of its piece; else `uid`
  /// itself.
  [[nodiscard]] std::uint32_t account_of(std::uint32_t uid) const;
  /// Null: nobody, or root.
  [[nodiscard]] std::shared_ptr<const Lender> lender_of(std::uint32_t uid) const;

 private:
  struct Range {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
    bool in_pieces = false;
    std::shared_ptr<const Lender> lender;  ///< Never null, but in pieces.
  };
  using Ranges = std::vector<Range>;  ///< Sorted, without overlaps.
  static void add(Ranges& ranges, Range range);
  [[nodiscard]] const Range* range_of(std::uint32_t uid) const;
  Ranges lent_;
  Ranges unowned_;  ///< Root's, and those of nobody; they count where no user's do.
};

}  // namespace mapcap::policy
