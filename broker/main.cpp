// mapcapd: from the command line to a broker that serves. start/broker.cpp wires it.
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "broker/assembly.h"
#include "broker/config.h"
#include "broker/door/listener.h"
#include "broker/foreign/examiner_process.h"
#include "broker/keeper/keeper.h"
#include "broker/ledger/ledger.h"
#include "broker/lent_uids.h"
#include "broker/parts.h"
#include "broker/regions/custody.h"
#include "broker/regions/fd_store.h"
#include "broker/sandbox/sandbox.h"
#include "broker/start/attempt.h"
#include "broker/start/broker.h"
#include "broker/start/power.h"
#include "broker/start/reporting.h"
#include "broker/start/service_manager.h"
#include "broker/start/workers.h"
#include "broker/state_directory.h"
#include "policy/subordinates.h"

namespace mapcap::broker {
namespace {

keeper::KeeperOptions keeper_options(const Config& config, const policy::Subordinates& subordinates,
                                     const Power& power) {
  keeper::KeeperOptions options;
  options.state_directory = config.state;
  options.issue_deadline =
      std::chrono::duration_cast<std::chrono::milliseconds>(config.policy->broker().keeper_deadline);
  if (config.private_use) options.idle.reset();
  options.accounts = subordinates;
  options.forge = power.forge();
  return options;
}

Result<std::unique_ptr<ledger::Ledger>> open_ledger(const Config& config, Loop& loop, Worker& worker,
                                                    Report& report) {
  MAPCAP_TRY(std::unique_ptr<ledger::Ledger> ledger, parts::ledger(config.ledger(), loop, worker));
  ledger->on_trouble([&report](const Failure* error) {
    if (error != nullptr) return report.ledger_refuses(*error);
    report.ledger_recovered();
  });
  return ledger;
}

/// Returns only when it fails.
Result<void> serve(const Config& config) {
  MAPCAP_TRY_VOID(sandbox::prepare_process());
  MAPCAP_TRY(Power power, Power::of_this_process(config));
  BootTime time;
  Loop loop(time);  // Outlives all that waits on it; starts no thread.
  Reporting reporting(loop, time);
  MAPCAP_TRY(const Fd state_lock, claim_state_directory(config.state));
  MAPCAP_TRY_VOID(make_socket_directory(config.socket));
  MAPCAP_TRY(ListeningSocket socket, listen_on(config.socket, parts::refuse_descriptors));
  const bool managed = notify_socket().has_value();
  FdStore store(managed ? FdStore::most_of_this_service() : std::nullopt, reporting.report);
  std::vector<keeper::HeldMemory> stored = take_stored(store);

  // Other processes, and what this one keeps of its power.
  Result<AccountChanges> account_changes = AccountChanges::watch();
  const policy::Subordinates subordinates = policy::Subordinates::of_machine();
  Attempt attempt(config.socket);
  MAPCAP_TRY(keeper::Keeper * keeper, attempt.keeper(keeper_options(config, subordinates, power)));
  MAPCAP_TRY_VOID(power.give_up(config, *keeper));
  MAPCAP_TRY(foreign::ExaminerProcess examiner, foreign::start_examiner());

  // Threads from here on.
  power.watch(loop, reporting.report);
  Workers workers(loop);
  keeper->attach(loop);
  MAPCAP_TRY(std::unique_ptr<ledger::Ledger> ledger,
             open_ledger(config, loop, workers.ledger, reporting.report));
  MAPCAP_TRY(const ledger::BootId boot, ledger::current_boot());
  Confiners confiners(*keeper, power.for_pools(workers.work));
  MAPCAP_TRY(ServedPools pools, parts::pools(*config.policy, confiners, ledger->identity()));
  Broker broker({config, power, loop, reporting, workers, *keeper, *ledger, boot, pools, confiners,
                 managed ? &store : nullptr},
                std::move(socket), std::move(examiner), subordinates);
  MAPCAP_TRY_VOID(broker.take_over(std::move(stored)));
  MAPCAP_TRY_VOID(sandbox::filter_system_calls(power.role(), parts::more_system_calls()));
  broker.begin(std::move(account_changes));
  loop.run();

  // Coroutines that still wait (a drain, a scrub) are not finished: the next start resumes them from the ledger.
  broker.leave();
  power.end();
  ::unlink(config.socket.c_str());  // Last: whoever waits for the end looks at it.
  std::fflush(nullptr);
  ::_exit(0);
}

/// --check-ledger and --forget-damaged: for a ledger that no broker uses. The exit status.
int look_after_ledger(const Config& config) {
  const std::string path = config.ledger();
  if (config.check_ledger) {
    const Result<bool> sound = ledger::check(path, stdout);
    if (sound) return sound.value() ? 0 : 1;
    std::fprintf(stderr, "mapcapd: %s\n", sound.error().sentence.c_str());
    return 1;
  }
  const Result<std::uint64_t> freed = ledger::forget_damaged(path);
  if (freed) {
    std::printf("%s: %" PRIu64 " damaged records freed\n", path.c_str(), freed.value());
    return 0;
  }
  std::fprintf(stderr, "mapcapd: %s\n", freed.error().sentence.c_str());
  return 1;
}

int run(int argc, char** argv) {
  auto parsed = parse_command_line(argc, argv);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  const Config& config = std::get<Config>(parsed);
  if (config.check_ledger || config.forget_damaged) return look_after_ledger(config);
  const Result<void> served = serve(config);
  std::fprintf(stderr, "mapcapd: %s\n", served.error().sentence.c_str());
  std::fflush(nullptr);
  ::_exit(1);  // Tasks that already wait on the loop have nobody left to unwind them.
}

}  // namespace
}  // namespace mapcap::broker

int main(int argc, char** argv) {
  try {
    return mapcap::broker::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mapcapd: unexpected: %s\n", error.what());
    return 1;
  }
}
