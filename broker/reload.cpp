#include "broker/reload.h"

#include <utility>

#include "base/machine/memory.h"
#include "policy/load/loader.h"
#include "policy/machine_share.h"

namespace mapcap::broker {

namespace {

Result<void> check_unchanged(const policy::Policy& now, const policy::Policy& next) {
  auto without_lines = [](std::vector<policy::PoolSettings> pools) {
    for (policy::PoolSettings& pool : pools) pool.where.clear();
    return pools;
  };
  if (without_lines(now.pools()) != without_lines(next.pools())) {
    return failure(ErrorCode::unsupported,
                   next.source() + ": pools differ from those in service; restart mapcapd to change them");
  }
  if (now.broker().socket != next.broker().socket || now.broker().state != next.broker().state) {
    return failure(ErrorCode::unsupported,
                   next.source() + ": [broker] socket and state change only with a restart of mapcapd");
  }
  return ok();
}

}  // namespace

void Reload::ask() {
  again_ = true;
  if (std::exchange(running_, true)) return;
  spawn(run());
}

Task<void> Reload::run() {
  while (std::exchange(again_, false)) {
    const auto read = [this] { return load_(); };
    Loaded loaded = co_await parts_.accounts.run(read);
    take(std::move(loaded));
  }
  running_ = false;
}

Reload::Loaded Reload::load(const std::string& path) {
  Loaded loaded{path.empty() ? policy::load_default() : policy::load_file(path), {}};
  if (loaded.policy) loaded.subordinates = policy::Subordinates::of_machine();
  return loaded;
}

void Reload::take(Loaded loaded) {
  if (!loaded.policy) return parts_.report.policy_refused(loaded.policy.error());
  const std::shared_ptr<const policy::Policy>& next = loaded.policy.value();
  if (Result<void> fits = policy::check_machine(next->pools(), machine::total_memory()); !fits) {
    return parts_.report.policy_refused(fits.error());
  }
  if (Result<void> same = check_unchanged(parts_.regions.policy(), *next); !same) {
    return parts_.report.policy_refused(same.error());
  }
  const policy::BrokerSettings& broker = next->broker();
  parts_.listener.set_limits({broker.max_connections, broker.max_connections_per_user});
  parts_.regions.set_subordinates(loaded.subordinates);
  parts_.regions.set_policy(next);
  parts_.report.policy_reloaded(path_.empty() ? "(the built-in default)" : path_);
}

}  // namespace mapcap::broker
