#include "broker/door/connection_shares.h"

#include "base/result.h"
#include "policy/subject.h"

namespace mapcap::broker {

void ConnectionShares::add(std::uint32_t account) {
  set(account, of(account) + 1);
}

void ConnectionShares::remove(std::uint32_t account) {
  const std::size_t count = of(account);
  MAPCAP_INVARIANT(count > 0, "a connection ends twice");
  set(account, count - 1);
}

std::size_t ConnectionShares::of(std::uint32_t account) const {
  const auto found = count_.find(account);
  return found == count_.end() ? 0 : found->second;
}

std::optional<std::uint32_t> ConnectionShares::yields_to(std::uint32_t account) const {
  if (by_count_.empty()) return std::nullopt;
  const auto& [most, holder] = *by_count_.rbegin();
  if (most < of(account) + 2) return std::nullopt;
  return holder;
}

void ConnectionShares::set(std::uint32_t account, std::size_t count) {
  if (account != policy::kAdministrators) {
    by_count_.erase({of(account), account});
    if (count > 0) by_count_.emplace(count, account);
  }
  if (count > 0) {
    count_[account] = count;
  } else {
    count_.erase(account);
  }
}

}  // namespace mapcap::broker
