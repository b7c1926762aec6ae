// Whose the connections are, and whose must yield when there are not enough for everybody.
//
// Who connects to a full broker gets a connection of whoever has most of them, if that leaves him no fewer
// than the newcomer then has. So everybody who wants connections ends up with about as many as the others who
// do, and who has none gets in while anybody has two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

namespace mapcap::broker {

class ConnectionShares {
 public:
  void add(std::uint32_t account);
  /// The account must have one.
  void remove(std::uint32_t account);
  [[nodiscard]] std::size_t of(std::uint32_t account) const;
  /// Who is to give up a connection, so that `account` may have one more; nobody when that were unfair.
  /// Administrators never are.
  [[nodiscard]] std::optional<std::uint32_t> yields_to(std::uint32_t account) const;

 private:
  void set(std::uint32_t account, std::size_t count);
  std::unordered_map<std::uint32_t, std::size_t> count_;
  std::set<std::pair<std::size_t, std::uint32_t>> by_count_;  ///< Without administrators.
};

}  // namespace mapcap::broker
