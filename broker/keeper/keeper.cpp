// What callers ask of the keeper.
#include "broker/keeper/keeper.h"

#include <poll.h>

#include <csignal>
#include <string>

#include "broker/keeper/client.h"

namespace mapcap::broker::keeper {

using wire::Kind;

namespace {

constexpr std::chrono::milliseconds kFarewell{1000};
constexpr std::chrono::seconds kUnclaimed{30};

}  // namespace

KeeperClient::~KeeperClient() {
  // The keeper lives on, as it does when the broker is killed.
  waits_->over = true;
  tell_waiters();
  leave_line();
  clone_.end_issuing();
  clone_.disconnect("mapcapd is shutting down", CloneConfiner::Lasts::yes);
}

void KeeperClient::attach(Loop& loop) {
  loop_ = &loop;
  waits_->changed.emplace(loop);
  clone_.begin_issuing(loop, options_.issue_deadline);
  clone_.take_names(std::exchange(left_names_, {}));
  clone_.begin_blanks();
  watch_line();
  open_root();
  look();
  unclaimed_timer_ = loop.after(kUnclaimed, [this] { clone_.close_unclaimed(); });
}

KeeperHealth KeeperClient::health() const {
  const confine::Confiner::Ahead ahead = clone_.ahead();
  const Holdings::Count held = holdings_.of_regions();
  return {pid_,
          serving_,
          adopted_,
          held.given,
          held.all - held.given,
          replacements_,
          last_end_,
          ahead.blanks,
          ahead.blanks_used,
          ahead.opens,
          ahead.opens_used,
          holdings_.of_sockets().given};
}

void KeeperClient::set_issue_deadline(std::chrono::milliseconds deadline) {
  options_.issue_deadline = deadline;
  clone_.set_deadline(deadline);
}

Task<bool> KeeperClient::prepare_to_leave(std::chrono::nanoseconds patience) {
  const std::shared_ptr<Waits> waits = waits_;
  clone_.end_blanks();
  for (bool more = true; more;) {
    more = clone_.detach_some([this](RegionId region) { return holdings_.knows(region); });
    if (more) co_await loop_->yield();
    if (waits->over) co_return false;
  }
  co_return co_await settle(patience);
}

void KeeperClient::on_release(std::function<void(confine::GrantId)> released, std::function<void()> told) {
  released_ = std::move(released);
  told_released_ = std::move(told);
}

bool KeeperClient::leave() {
  clone_.end_blanks();
  tell_forgotten();
  // Clones of other people's files have no region here.
  const bool keeps = holdings_.size() != 0 || clone_.has_grants();
  if (keeps && options_.idle) return true;
  shut_down();
  return false;
}

void KeeperClient::shut_down() {
  if (line_ != nullptr) {
    unsent_.push_back({Kind::end});
    const bool told = send_some() == Sent::all;
    pollfd gone{process_.get(), POLLIN, 0};
    if (!told || ::poll(&gone, 1, static_cast<int>(kFarewell.count())) != 1) {
      signal_keeper(process_.borrow(), SIGKILL);
      ::poll(&gone, 1, static_cast<int>(kFarewell.count()));
    }
    reap_keeper(process_.borrow());
  }
  unlink_socket(directory_.borrow());
  leave_line();
  clone_.disconnect("mapcapd is shutting down", CloneConfiner::Lasts::yes);
  forget_timer_ = {};
  ending_timer_ = {};
  look_timer_ = {};
  retry_timer_ = {};
  unclaimed_timer_ = {};
}

Result<void> KeeperClient::reopen_directory() {
  MAPCAP_TRY(directory_, open_state_directory(options_.state_directory));
  return ok();
}

Result<std::unique_ptr<Keeper>> Keeper::adopt_or_start(const KeeperOptions& options) {
  MAPCAP_TRY(Fd directory, open_state_directory(options.state_directory));
  auto keeper = std::make_unique<KeeperClient>(options, std::move(directory));
  MAPCAP_TRY_VOID(keeper->adopt());
  return std::unique_ptr<Keeper>(std::move(keeper));
}

}  // namespace mapcap::broker::keeper
