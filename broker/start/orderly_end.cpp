#include "broker/start/orderly_end.h"

#include <systemd/sd-daemon.h>

#include <chrono>
#include <cstdint>

namespace mapcap::broker {
namespace {

/// How long an orderly end waits for a keeper that is being replaced, or has much to take over: less than service
/// managers wait.
constexpr std::chrono::seconds kGuardWithin{20};

}  // namespace

void OrderlyEnd::begin(const std::string& why) {
  if (begun_) {
    // Not even for the ledger's disk, but still for a keeper that is to have all memory.
    const keeper::KeeperHealth health = parts_.keeper.health();
    if (health.serving && health.unheld == 0) parts_.loop.stop();
    return;
  }
  begun_ = true;
  parts_.report.stopping(why);
  sd_notify(0, "STOPPING=1");
  parts_.listener.stop();
  parts_.endpoints.leave();
  spawn(close_and_stop());
}

void OrderlyEnd::begin(ServiceVerbs::Keeper becomes) {
  keepers_ = becomes;
  if (!begun_) begin("shutdown was asked for");
}

/// What process strength left in the page cache becomes durable, so that after a reboot the volatile regions are told as
/// lost.
Task<void> OrderlyEnd::close_and_stop() {
  const bool guarded = co_await parts_.keeper.prepare_to_leave(kGuardWithin);
  const std::uint64_t unheld = parts_.keeper.health().unheld;
  if (!guarded && unheld > 0) parts_.report.memory_unguarded(unheld);
  Result<void> closed = co_await parts_.ledger.close();
  if (!closed) parts_.report.close_failed(closed.error());
  parts_.loop.stop();
}

void OrderlyEnd::leave_the_keeper() {
  const keeper::KeeperHealth health = parts_.keeper.health();
  if (keepers_ == ServiceVerbs::Keeper::ends) {
    parts_.keeper.shut_down();
  } else if (parts_.keeper.leave()) {
    parts_.report.memory_stays(health.held, health.pid);
  }
}

}  // namespace mapcap::broker
