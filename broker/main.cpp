// mapcapd. Everything is wired here: read this file and see the program.
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "broker/assembly.h"
#include "broker/books/releases.h"
#include "broker/config.h"
#include "broker/door/dispatch.h"
#include "broker/door/endpoints.h"
#include "broker/door/listener.h"
#include "broker/door/service_verbs.h"
#include "broker/door/user_names.h"
#include "broker/foreign/examiner_process.h"
#include "broker/foreign/file_clones.h"
#include "broker/foreign/file_examiner.h"
#include "broker/lent_uids.h"
#include "broker/mint/forge.h"
#include "broker/mint/link.h"
#include "broker/mint/names.h"
#include "broker/parts.h"
#include "broker/regions/custody.h"
#include "broker/regions/fd_store.h"
#include "broker/regions/regions.h"
#include "broker/reload.h"
#include "broker/report/audit.h"
#include "broker/report/audit_outlets.h"
#include "broker/report/log_line.h"
#include "broker/sandbox/landlock.h"
#include "broker/sandbox/room.h"
#include "broker/sandbox/sandbox.h"
#include "broker/state_directory.h"
#include "broker/turns/fair_gate.h"
#include "policy/accounts.h"
#include "policy/power.h"

namespace mapcap::broker {
namespace {

/// Carving, scrubbing, truncation and device control; the ledger's msync has a thread of its own. More than
/// one user has requests under way, so that nobody alone takes all of them.
constexpr std::size_t kWorkers = 2 * FairGate::kConcurrent;
/// Users whose names are looked up at once; patiently, since who has a range of uids can ask for many names.
constexpr std::size_t kAccountLookups = 2;
/// Regions that are scrubbed at once.
constexpr std::size_t kScrubbers = 2;

/// Records in pools that the policy no longer has would be charged to nobody and served by nobody.
Result<void> check_pools_of(const std::vector<ledger::RegionRecord>& records, const ServedPools& pools) {
  for (const ledger::RegionRecord& record : records) {
    if (record.state == RegionState::lost || find_pool(pools, record.pool) != nullptr) continue;
    return failure(
        ErrorCode::invalid,
        "region " + record.name + " lies in pool " + record.pool +
            ", which the policy does not have: put the pool back, revoke what is in it, then remove it");
  }
  return ok();
}

/// How long an orderly end waits for a keeper that is being replaced, or has much to take over: less than service
/// managers wait.
constexpr std::chrono::seconds kGuardWithin{20};

/// The keeper gets what it is to hold; what process strength left in the page cache becomes durable, so that after a
/// reboot the volatile regions are told as lost; then the loop ends.
Task<void> close_and_stop(keeper::Keeper& keeper, ledger::Ledger& ledger, Report& report, Loop& loop) {
  const bool guarded = co_await keeper.prepare_to_leave(kGuardWithin);
  const std::uint64_t unheld = keeper.health().unheld;
  if (!guarded && unheld > 0) report.memory_unguarded(unheld);
  Result<void> closed = co_await ledger.close();
  if (!closed) report.close_failed(closed.error());
  loop.stop();
}

/// What a start that fails takes back: its socket's path, and the keeper that it started. One that it adopted
/// carries regions, and stays for the next try.
class Start {
 public:
  explicit Start(const std::string& socket) : socket_(socket) {}
  Start(const Start&) = delete;
  Start& operator=(const Start&) = delete;
  ~Start() {
    ::unlink(socket_.c_str());
    if (keeper_ != nullptr && !keeper_->adopted()) keeper_->shut_down();
  }

  Result<keeper::Keeper*> keeper(const keeper::KeeperOptions& options) {
    MAPCAP_TRY(keeper_, parts::keeper(options));
    return keeper_.get();
  }

 private:
  const std::string& socket_;
  std::unique_ptr<keeper::Keeper> keeper_;
};

sandbox::EndsHolders ends_holders(const policy::Policy& policy) {
  const auto& pools = policy.pools();
  const bool any = std::any_of(pools.begin(), pools.end(),
                               [](const auto& pool) { return pool.end_holders_after.has_value(); });
  return any ? sandbox::EndsHolders::yes : sandbox::EndsHolders::no;
}

/// Whether the power is to be the mint's: whatever reads clients' bytes should have none. A private broker has none to give
/// away, and what serves devices, or confines by BPF, still needs it itself.
bool wants_a_mint(const Config& config) {
  const auto& pools = config.policy->pools();
  return !config.private_use &&
         std::none_of(pools.begin(), pools.end(), [](const auto& pool) { return needs_power(pool, true); });
}

/// The same, once it is known whether this machine makes clones.
bool needs_own_power(const Config& config, const keeper::Keeper& keeper) {
  const auto& pools = config.policy->pools();
  return std::any_of(
      pools.begin(), pools.end(),
      [clones = keeper.clone_unavailable().empty()](const auto& pool) { return needs_power(pool, clones); });
}

/// What NOTIFY_SOCKET names, if it is a path.
std::string notify_socket() {
  const char* name = std::getenv("NOTIFY_SOCKET");  // NOLINT(concurrency-mt-unsafe): nobody sets it.
  return name == nullptr ? "" : name;
}

/// From here on this process has the state directory, its sockets' directory and what the kernel tells, and none of the
/// machine's power: no other path exists for it.
Result<void> close_in(const Config& config, keeper::Keeper& keeper) {
  const std::string notify = notify_socket();
  sandbox::Room room = sandbox::with_the_kernel();
  room.writable = {config.state, std::filesystem::absolute(config.socket).parent_path().string()};
  room.sockets.emplace_back(kJournalSocket);
  if (notify.starts_with('/')) room.sockets.push_back(notify);
  if (Result<void> entered = sandbox::enter_room(room); !entered) {
    Failure refused = std::move(entered).assume_error();
    refused.sentence +=
        "; mapcapd serves from a mount namespace of its own: let it unshare and mount (a container must be "
        "privileged)";
    return refused;
  }
  // Opened outside, it would be a way out.
  MAPCAP_TRY_VOID(keeper.reopen_directory());
  MAPCAP_TRY_VOID(sandbox::restrict_by_landlock(notify.starts_with('@') ? sandbox::AbstractSockets::allowed
                                                                        : sandbox::AbstractSockets::refused));
  return sandbox::give_power_away();
}

/// How pools get what takes power.
PoolPower power_of(mint::Link& link) {
  return {[&link](BorrowedFd file) { return mint::cache_mode(link, file); },
          [&link](const std::string& pool) { return mint::pool_directory(link, pool); },
          [&link] { return mint::huge_tmpfs(link); }};
}

Result<void> serve(const Config& config) {
  BootTime time;
  LogReport report;
  MAPCAP_TRY_VOID(sandbox::prepare_process());
  if (!config.private_use) {
    MAPCAP_TRY_VOID(sandbox::check_privileges());
  }
  // Forked first, while there is nothing that it could inherit.
  std::unique_ptr<mint::Link> mint;
  if (wants_a_mint(config)) {
    const auto absolute = [](const std::string& path) {
      return path.empty() ? path : std::filesystem::absolute(path).string();
    };
    MAPCAP_TRY(mint, mint::Link::start(
                         {absolute(config.policy_path), absolute(config.socket), absolute(config.state)}));
  }
  MAPCAP_TRY(Fd state_lock, claim_state_directory(config.state));
  MAPCAP_TRY_VOID(make_socket_directory(config.socket));
  MAPCAP_TRY(ListeningSocket socket, listen_on(config.socket, parts::refuse_descriptors));

  Regions::Inheritance inheritance;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it.
  const bool has_store = std::getenv("NOTIFY_SOCKET") != nullptr;
  FdStore store(has_store ? FdStore::most_of_this_service() : std::nullopt, report);
  inheritance.memory = take_stored(store);
  keeper::KeeperOptions keeper_options;
  keeper_options.state_directory = config.state;
  keeper_options.issue_deadline =
      std::chrono::duration_cast<std::chrono::milliseconds>(config.policy->broker().keeper_deadline);
  if (config.private_use) keeper_options.idle.reset();
  Result<AccountChanges> account_changes = AccountChanges::watch();
  policy::Subordinates subordinates = policy::Subordinates::of_machine();
  keeper_options.accounts = subordinates;
  if (mint) keeper_options.forge = mint::make_forge(*mint);
  Loop loop(time);  // Outlives all that waits on it; starts no thread.
  Loop::Timer repeats;
  report.use_time([&] { return time.now(); },
                  [&](std::chrono::nanoseconds delay, std::function<void()> work) {
                    repeats = loop.after(delay, std::move(work));
                  });
  Loop::Timer counted;
  const std::unique_ptr<AuditOutlet> audit_outlet = make_audit_outlet();
  Audit audit(
      *audit_outlet,
      [&](Audit::Time delay, std::function<void()> work) { counted = loop.after(delay, std::move(work)); },
      [&] { return time.now(); });
  Start start(config.socket);
  MAPCAP_TRY(keeper::Keeper * keeper, start.keeper(keeper_options));
  const bool confined = mint != nullptr && !needs_own_power(config, *keeper);
  std::unique_ptr<policy::NameService> mints_names;
  if (confined) {
    MAPCAP_TRY_VOID(close_in(config, *keeper));
    mints_names = mint::make_names(*mint);
    policy::ask_names_of(mints_names.get());
    policy::ask_user_namespaces_of([&link = *mint](pid_t peer) { return mint::user_namespace(link, peer); });
  } else {
    MAPCAP_TRY_VOID(sandbox::drop_privileges(ends_holders(*config.policy)));
  }
  MAPCAP_TRY(foreign::ExaminerProcess examiner_process, foreign::start_examiner());

  // Threads from here on.
  if (mint) {
    // Whoever has no power cannot make a mint. Its state is the ledger's and the keeper's: it ends as by SIGKILL, and the
    // next start has both again.
    mint->watch([&] { loop.post([&report] { report.mint_replaced(); }); },
                [] {
                  (void)write_to_log(
                      "mapcapd: the mint and its heir have ended, and with them the power to make grants: "
                      "ending; the next start finds everything as it is\n");
                  ::_exit(1);
                });
  }
  Worker ledger_worker(loop, 1);
  Worker worker(loop, kWorkers);
  Worker scrubber(loop, kScrubbers, Worker::Pace::patient);
  Worker prober(loop, 1, Worker::Pace::patient);
  Worker labels(loop, 1);
  Worker accounts(loop, kAccountLookups, Worker::Pace::patient);
  keeper->attach(loop);
  MAPCAP_TRY(std::unique_ptr<ledger::Ledger> ledger, parts::ledger(config.ledger(), loop, ledger_worker));
  ledger->on_trouble([&report](const Failure* error) {
    if (error != nullptr) return report.ledger_refuses(*error);
    report.ledger_recovered();
  });
  MAPCAP_TRY(ledger::BootId boot, ledger::current_boot());

  Confiners confiners(*keeper, confined ? power_of(*mint) : PoolPower{});
  MAPCAP_TRY(ServedPools pools, parts::pools(*config.policy, confiners, ledger->identity()));
  Quotas quotas;
  for (const auto& served : pools) quotas.add_pool(served->facts().name, served->facts().capacity.value);
  Directory directory;
  Custody custody(*keeper, worker);
  if (has_store) custody.use(store);
  FileExaminer examiner(loop, worker, std::move(examiner_process));
  FileClones clones(*keeper, quotas, examiner);
  SystemClock clock;
  FairGate gate(loop);
  UserNames names(loop, accounts);

  Listener listener(
      {loop, gate, report, audit, quotas, names, labels, examiner}, std::move(socket),
      {config.policy->broker().max_connections, config.policy->broker().max_connections_per_user});
  Regions regions({loop, worker, scrubber, prober, directory, quotas, *ledger, *keeper, custody, listener,
                   report, clock, boot, pools},
                  config.policy);
  regions.set_subordinates(subordinates);
  bool stopping = false;
  std::function<void()> before_leaving;
  auto keepers_end = ServiceVerbs::Keeper::stays;
  const auto stop = [&](const std::string& why) {
    if (stopping) {
      // Asked twice: not even for the ledger's disk, but still for a keeper that is to have all memory.
      const keeper::KeeperHealth health = keeper->health();
      if (health.serving && health.unheld == 0) loop.stop();
      return;
    }
    stopping = true;
    report.stopping(why);
    sd_notify(0, "STOPPING=1");
    listener.stop();
    before_leaving();
    spawn(close_and_stop(*keeper, *ledger, report, loop));
  };
  ServiceVerbs service({regions, directory, *keeper, custody, *ledger, pools, listener, clock},
                       [&](ServiceVerbs::Keeper becomes) {
                         keepers_end = becomes;
                         if (!stopping) stop("shutdown was asked for");
                       });
  const auto open_pool = [&confiners, identity = ledger->identity()](const policy::PoolSettings& settings) {
    return broker::open_pool(settings, confiners, identity);
  };
  const bool may_kill = ends_holders(*config.policy) == sandbox::EndsHolders::yes;
  const auto limit_connections = [&listener](const policy::BrokerSettings& limits) {
    listener.set_limits({limits.max_connections, limits.max_connections_per_user});
  };
  Reload reload(
      {loop, accounts, worker, scrubber, regions, quotas, *keeper, report, pools, open_pool,
       limit_connections, may_kill,
       confined ? std::function<Result<std::string>()>([&link = *mint] { return mint::policy_text(link); })
                : nullptr},
      config.policy_path, config.policy_text);
  EndpointDirectory::Mounter mounter;
  if (confined)
    mounter = [&link = *mint](const std::string& place) { return mint::endpoint_mount(link, place); };
  Endpoints endpoints({loop, accounts, regions, quotas, *ledger, listener, report, clock, boot, pools, audit,
                       custody, *keeper},
                      EndpointDirectory(config.socket, parts::refuse_descriptors, mounter));
  before_leaving = [&endpoints] { endpoints.leave(); };
  Dispatch dispatch(regions, quotas, *ledger, pools, clones, listener, audit, service, reload, endpoints);
  listener.set_handler(dispatch);
  Releases releases(
      loop, {[&](confine::GrantId grant) -> Meter::Account {
               std::optional<std::uint32_t> holder = regions.holder_of(grant);
               if (!holder) holder = clones.holder_of(grant);
               if (!holder) return std::nullopt;
               return quotas.account_of(*holder);
             },
             [&](confine::GrantId grant) { (void)(regions.released(grant) || clones.released(grant)); }});
  keeper->on_release([&](confine::GrantId grant) { releases.add(grant); });
  keeper->on_ended([&](const std::string& how) { report.keeper_ended(how); });
  keeper->on_replaced([&] {
    clones.forget_all();
    regions.keeper_replaced();
  });

  ledger::Recovered recovered = ledger->take_recovered();
  MAPCAP_TRY_VOID(check_pools_of(recovered.regions, pools));
  for (const ledger::QuotaRecord& record : recovered.quotas) quotas.set_override(record);
  endpoints.learn(std::move(recovered.endpoints), recovered.regions);
  inheritance.records = std::move(recovered.regions);
  inheritance.damaged = recovered.damaged;
  for (keeper::HeldMemory& held : keeper->take_held()) inheritance.memory.push_back(std::move(held));
  endpoints.take_sockets(inheritance.memory);
  inheritance.grants = keeper->take_live_grants();
  quotas.set_memberships([](std::uint32_t uid) {
    const std::optional<policy::Account> account = policy::find_account(uid);
    return account ? policy::groups_of(*account) : std::vector<std::uint32_t>();
  });
  for (const confine::LiveGrant& grant : inheritance.grants) clones.restore(grant);
  regions.recover(std::move(inheritance));
  quotas.set_memberships({});
  MAPCAP_TRY_VOID(sandbox::filter_system_calls(confined ? sandbox::Role::confined : sandbox::Role::powerful,
                                               parts::more_system_calls()));

  std::optional<LentUids> lent_uids;
  if (account_changes) {
    const auto take = [&](const policy::Subordinates& found) { regions.set_subordinates(found); };
    lent_uids.emplace(LentUids::Parts{loop, accounts, take}, std::move(account_changes.value()));
    lent_uids->start();
  } else {
    report.lent_uids_unwatched(account_changes.error());
  }
  loop.on_signal({SIGTERM, SIGINT, SIGHUP}, [&](int number) {
    if (number == SIGHUP) return reload.ask();
    stop(number == SIGTERM ? "SIGTERM" : "SIGINT");
  });
  endpoints.start();
  listener.start();
  sd_notify(0, "READY=1");
  report.started(config.socket, config.state, keeper->adopted());
  parts::serving();
  loop.run();
  audit.finish();

  // Memory stays with the keeper, unless all of it was ended by a shutdown: no signal destroys data. Coroutines
  // that still wait (a drain, a scrub) are not finished: the next start resumes them from the ledger.
  const keeper::KeeperHealth health = keeper->health();
  if (keepers_end == ServiceVerbs::Keeper::ends) {
    keeper->shut_down();
  } else if (keeper->leave()) {
    report.memory_stays(health.held, health.pid);
  }
  mint.reset();
  ::unlink(config.socket.c_str());  // Last: whoever waits for the end looks at it.
  std::fflush(nullptr);
  ::_exit(0);
}

int run(int argc, char** argv) {
  auto parsed = parse_command_line(argc, argv);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  const Config& config = std::get<Config>(parsed);
  if (config.check_ledger) {
    Result<bool> sound = ledger::check(config.ledger(), stdout);
    if (sound) return sound.value() ? 0 : 1;
    std::fprintf(stderr, "mapcapd: %s\n", sound.error().sentence.c_str());
    return 1;
  }
  if (config.forget_damaged) {
    const Result<std::uint64_t> freed = ledger::forget_damaged(config.ledger());
    if (freed) std::printf("%s: %" PRIu64 " damaged records freed\n", config.ledger().c_str(), freed.value());
    if (freed) return 0;
    std::fprintf(stderr, "mapcapd: %s\n", freed.error().sentence.c_str());
    return 1;
  }
  Result<void> served = serve(config);
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
