#include "broker/door/user_names.h"

#include <optional>
#include <utility>

#include "policy/accounts.h"

namespace mapcap::broker {

std::string UserNames::from_accounts(uid_t uid) {
  std::optional<policy::Account> account = policy::find_account(uid);
  return account ? std::move(account->name) : std::string();
}

Task<std::string> UserNames::of(uid_t uid) {
  for (;;) {
    const auto known = known_.find(uid);
    if (known != known_.end() && loop_.time().now() < known->second.until) {
      co_return known->second.name;
    }
    const auto [asked, first] = asked_.try_emplace(uid, loop_);
    if (!first) {
      co_await asked->second.wait();
      continue;
    }
    const auto ask = [this, uid] { return look_up_(uid); };
    std::string name = co_await worker_.run_for(uid, ask);  // Whoever's name hangs waits alone.
    learn(uid, name);
    auto answered = asked_.extract(uid);
    answered.mapped().notify();
    co_return name;
  }
}

void UserNames::learn(uid_t uid, std::string name) {
  const Time now = loop_.time().now();
  if (known_.size() >= kMost && !known_.contains(uid)) {
    std::erase_if(known_, [now](const auto& entry) { return entry.second.until <= now; });
    if (known_.size() >= kMost) known_.clear();  // Costs each of them one more lookup.
  }
  known_[uid] = {std::move(name), now + believed_};
}

}  // namespace mapcap::broker
