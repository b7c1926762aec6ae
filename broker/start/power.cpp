#include "broker/start/power.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "broker/mint/confiners.h"
#include "broker/mint/forge.h"
#include "broker/mint/names.h"
#include "broker/report/audit_outlets.h"
#include "broker/report/log_line.h"
#include "broker/sandbox/landlock.h"
#include "broker/sandbox/room.h"
#include "broker/start/service_manager.h"
#include "policy/power.h"

namespace mapcap::broker {
namespace {

sandbox::EndsHolders ends_holders(const policy::Policy& policy) {
  const auto& pools = policy.pools();
  const bool any = std::any_of(pools.begin(), pools.end(),
                               [](const auto& pool) { return pool.end_holders_after.has_value(); });
  return any ? sandbox::EndsHolders::yes : sandbox::EndsHolders::no;
}

/// Whether one of the pools needs power in the broker itself.
bool any_needs_power(const policy::Policy& policy) {
  return std::any_of(policy.pools().begin(), policy.pools().end(), needs_power);
}

mint::Places places_of(const Config& config) {
  const auto absolute = [](const std::string& path) {
    return path.empty() ? path : std::filesystem::absolute(path).string();
  };
  return {absolute(config.policy_path), absolute(config.socket), absolute(config.state)};
}

/// From here on this process has the state directory, its sockets' directory and what the kernel tells, and none of the
/// machine's power: no other path exists for it.
Result<void> close_in(const Config& config, keeper::Keeper& keeper) {
  const std::string notify = notify_socket().value_or("");
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

}  // namespace

Result<Power> Power::of_this_process(const Config& config) {
  Power power;
  // A private broker has none to give away.
  if (config.private_use) return power;
  MAPCAP_TRY_VOID(sandbox::check_privileges());
  if (!any_needs_power(*config.policy)) {
    MAPCAP_TRY(power.mint_, mint::Link::start(places_of(config)));
  }
  return power;
}

Result<void> Power::give_up(const Config& config, keeper::Keeper& keeper) {
  ends_holders_ = ends_holders(*config.policy);
  confined_ = mint_ != nullptr;
  if (!confined_) return sandbox::drop_privileges(ends_holders_);
  MAPCAP_TRY_VOID(close_in(config, keeper));
  names_ = mint::make_names(*mint_);
  policy::ask_names_of(names_.get());
  policy::ask_user_namespaces_of([&link = *mint_](pid_t peer) { return mint::user_namespace(link, peer); });
  return ok();
}

void Power::watch(Loop& loop, Report& report) {
  if (!mint_) return;
  // Whoever has no power cannot make a mint. The broker's state is the ledger's and the keeper's: it ends as by SIGKILL, and
  // the next start has both again.
  mint_->watch([&loop, &report] { loop.post([&report] { report.mint_replaced(); }); },
               [] {
                 (void)write_to_log(
                     "mapcapd: the mint and its heir have ended, and with them the power to make grants: "
                     "ending; the next start finds everything as it is\n");
                 ::_exit(1);
               });
}

std::shared_ptr<keeper::Forge> Power::forge() const {
  return mint_ ? mint::make_forge(*mint_) : nullptr;
}

PoolPower Power::for_pools(Worker& worker) const {
  if (!confined_) return {};
  return {[&link = *mint_](BorrowedFd file) { return mint::cache_mode(link, file); },
          [&link = *mint_](const std::string& pool) { return mint::pool_directory(link, pool); },
          [&link = *mint_] { return mint::huge_tmpfs(link); },
          [&link = *mint_, &worker] { return mint::make_lsm(link, worker); }};
}

EndpointDirectory::Mounter Power::mounter() const {
  if (!confined_) return {};
  return [&link = *mint_](const std::string& place) { return mint::endpoint_mount(link, place); };
}

std::function<Result<std::string>()> Power::policy_reader() const {
  if (!confined_) return {};
  return [&link = *mint_] { return mint::policy_text(link); };
}

}  // namespace mapcap::broker
