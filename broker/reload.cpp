#include "broker/reload.h"

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

void reload(const Config& config, Regions& regions, Listener& listener, Report& report) {
  auto loaded = config.policy_path.empty() ? policy::load_default() : policy::load_file(config.policy_path);
  if (!loaded) {
    report.policy_refused(loaded.error());
    return;
  }
  if (Result<void> fits = policy::check_machine(loaded.value()->pools(), machine::total_memory()); !fits) {
    report.policy_refused(fits.error());
    return;
  }
  if (Result<void> same = check_unchanged(regions.policy(), *loaded.value()); !same) {
    report.policy_refused(same.error());
    return;
  }
  const policy::BrokerSettings& broker = loaded.value()->broker();
  listener.set_limits({broker.max_connections, broker.max_connections_per_user});
  regions.set_policy(loaded.value());
  report.policy_reloaded(config.policy_path.empty() ? "(the built-in default)" : config.policy_path);
}

}  // namespace mapcap::broker
