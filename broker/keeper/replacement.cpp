// How the broker gets a keeper: it adopts one or forks one, watches it, and replaces one that ends.
#include <algorithm>
#include <csignal>
#include <string>

#include "broker/keeper/client.h"

namespace mapcap::broker::keeper {

using wire::Kind;

namespace {

/// Looks at the keeper a killing interval: so many without an answer and it is killed. Counting looks, rather
/// than time, keeps a machine that was suspended from killing its keeper on waking up.
constexpr int kLooks = 4;
constexpr std::chrono::milliseconds kBetweenStartsAtMost{1000};

}  // namespace

Result<void> KeeperClient::adopt() {
  end_spare_keeper(directory_.borrow());
  MAPCAP_TRY(auto surviving, adopt_keeper(directory_.borrow(), options_));
  if (!surviving) return begin();
  KeeperHandle& handle = surviving->first;
  Inventory& inventory = surviving->second;
  adopted_ = true;
  held_memory_ = std::move(inventory.memory);
  for (const HeldMemory& memory : held_memory_) holdings_.adopt(memory.region);
  if (!handle.clone.path) {
    auto next = take_over(directory_.borrow(), handle, held_memory_, kRequestTimeout, options_);
    if (next) {
      take(std::move(next.value().first), next.value().second);
      serving_ = true;
      return ok();
    }
    // It goes on as what it can be: a holder of memory.
    if (next.error().code == ErrorCode::unsupported) handle.clone_unavailable = next.error().sentence;
  }
  knows_grants_ = inventory.fuse_alive;
  if (knows_grants_) live_grants_ = std::move(inventory.grants);
  const bool makes_clones = handle.clone.path != nullptr;
  left_names_ = std::move(inventory.names);
  take(std::move(handle), inventory);
  for (const confine::LiveGrant& grant : live_grants_) clone_.adopt_grant(grant.grant);
  if (makes_clones) {
    for (const auto& [region, backing_id] : inventory.backings) clone_.adopt_backing(region, backing_id);
    clone_.close_untold(inventory.last_backing);
  }
  serving_ = true;
  return ok();
}

Result<void> KeeperClient::begin() {
  MAPCAP_TRY(
      KeeperHandle handle,
      options_.forge->start_keeper(directory_.borrow(), {kRequestTimeout, options_.idle, options_.accounts}));
  auto inventory = receive_inventory(handle, options_);
  if (!inventory) {
    signal_keeper(handle.process.borrow(), SIGKILL);
    return inventory.error();
  }
  take(std::move(handle), inventory.value());
  serving_ = true;
  return ok();
}

void KeeperClient::take(KeeperHandle handle, const Inventory& told) {
  connect(std::move(handle));
  take_abilities(told);
}

void KeeperClient::take_abilities(const Inventory& told) {
  max_held_ = told.max_held;
  holds_many_ = told.holds_many;
  tells_published_ = told.tells_published;
  knows_blanks_ = told.knows_blanks;
  knows_ready_opens_ = told.knows_ready_opens;
  if (told.opens_by_name) clone_.open_by_name();
  forgets_many_ = told.forgets_many;
}

void KeeperClient::connect(KeeperHandle handle) {
  pid_ = handle.pid;
  process_ = std::move(handle.process);
  clone_unavailable_ = handle.clone_unavailable;
  if (clone_unavailable_.empty()) {
    clone_.connect(std::move(handle.clone));
  } else {
    clone_.disconnect(clone_unavailable_, CloneConfiner::Lasts::yes);
  }
  line_ = std::make_shared<Line>();
  line_->socket = std::move(handle.socket);
  line_->owner = this;
  silent_looks_ = 0;
}

void KeeperClient::ended(const std::string& why) {
  pause_ = serving_ ? kBetweenStarts : std::min(pause_ * 2, kBetweenStartsAtMost);
  leave_line();
  clone_.disconnect("the keeper ended and is being replaced; ask again", CloneConfiner::Lasts::no);
  holdings_.begin_anew();
  knows_grants_ = false;
  signal_keeper(process_.borrow(), SIGKILL);
  endings_.push_back({std::move(process_), why});
  note_endings();
  pid_ = 0;
  tell_waiters();
  retry_timer_ = loop_->after(last_start_ + pause_ - now(), [this] { start_again(); });
}

void KeeperClient::note_endings() {
  std::erase_if(endings_, [this](const Ending& ending) {
    const std::optional<std::string> how = reap_keeper(ending.process.borrow());
    if (!how) return false;
    last_end_ = ending.why.empty() ? *how : ending.why;
    if (ended_) ended_(last_end_);
    return true;
  });
  ending_timer_ = {};
  if (!endings_.empty()) ending_timer_ = loop_->after(kBetweenStarts, [this] { note_endings(); });
}

void KeeperClient::start_again() {
  last_start_ = now();
  starting_ = Inventory();
  auto handle =
      options_.forge->start_keeper(directory_.borrow(), {kRequestTimeout, options_.idle, options_.accounts});
  if (!handle) {
    clone_.disconnect("the keeper cannot be started again: " + handle.error().sentence,
                      CloneConfiner::Lasts::no);
    pause_ = std::min(pause_ * 2, kBetweenStartsAtMost);
    retry_timer_ = loop_->after(pause_, [this] { start_again(); });
    return;
  }
  connect(std::move(handle.value()));
  watch_line();
}

void KeeperClient::replaced() {
  take_abilities(starting_);
  starting_ = Inventory();
  serving_ = true;
  adopted_ = false;
  ++replacements_;
  open_root();
  clone_.begin_blanks();
  send_unsent();
  tell_waiters();
  if (replaced_) replaced_();
}

void KeeperClient::open_root() {
  const std::shared_ptr<IssuePath> path = clone_.path();
  if (!path) return;
  clone_.issuer().open_root(path, [line = std::weak_ptr<Line>(line_), path](Result<Fd> root) {
    const std::shared_ptr<Line> kept = line.lock();
    if (kept != nullptr && kept->owner != nullptr) kept->owner->opened_root(path, std::move(root));
  });
}

void KeeperClient::opened_root(const std::shared_ptr<IssuePath>& path, Result<Fd> root) {
  if (path != clone_.path()) return;
  if (!root) return ended("was ended because its filesystem did not open");
  const BorrowedFd fds[] = {root.value().borrow()};
  // When the keeper's queue is full it keeps the mount, which serves as well.
  [[maybe_unused]] const auto sent = schema::send(line_->socket.borrow(), wire::packet({Kind::root}), fds);
}

void KeeperClient::look() {
  look_timer_ = loop_->after(options_.kill_after / kLooks, [this] { look(); });
  if (line_ == nullptr) return;
  if (silent_looks_ >= kLooks) {
    return ended("was killed after " + format_duration(options_.kill_after) + " of silence");
  }
  ++silent_looks_;
  ping();
}

}  // namespace mapcap::broker::keeper
