// The broker's end of the keeper: one object that always has a keeper, is getting one, or says why not.
#include "broker/keeper/keeper.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <optional>
#include <string>

#include "broker/keeper/clone.h"
#include "broker/keeper/holdings.h"
#include "broker/keeper/start.h"
#include "broker/keeper/wire.h"
#include "broker/wait/event.h"

namespace mapcap::broker::keeper {
namespace {

using wire::Kind;

/// Looks at the keeper a killing interval: so many without an answer and it is killed. Counting looks, rather
/// than time, keeps a machine that was suspended from killing its keeper on waking up.
constexpr int kLooks = 4;
/// A keeper that ends is replaced at once, but not more than fifty times a second; one that ends before it
/// serves makes the next wait twice as long, up to a second.
constexpr std::chrono::milliseconds kBetweenStarts{20};
constexpr std::chrono::milliseconds kBetweenStartsAtMost{1000};
constexpr std::chrono::milliseconds kFarewell{1000};
constexpr std::chrono::milliseconds kAfterFailure{20};
constexpr const char* kNoSense = "was ended because it made no sense";
constexpr std::chrono::seconds kUnclaimed{30};
/// The kernel's own net, for a keeper that is stopped while no broker lives: it aborts the connection, and
/// holders who wait for an answer get one. Far above kill_after, since it costs all grants their
/// self-description.
constexpr std::chrono::seconds kRequestTimeout{60};

/// Packets of descriptors between two looks at the rest of the loop: a thousand regions.
constexpr int kBatchesAtOnce = 4;

class KeeperClient final : public Keeper, private KeeperLink {
 public:
  KeeperClient(KeeperOptions options, Fd directory)
      : options_(std::move(options)), directory_(std::move(directory)), clone_(*this) {}

  ~KeeperClient() override {
    // The keeper lives on, as it does when the broker is killed.
    waits_->over = true;
    tell_waiters();
    leave_line();
    clone_.end_issuing();
    clone_.disconnect("mapcapd is shutting down", CloneConfiner::Lasts::yes);
  }

  Result<void> adopt() {
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
    take(std::move(handle), inventory);
    for (const confine::LiveGrant& grant : live_grants_) clone_.adopt_grant(grant.grant);
    if (makes_clones) {
      for (const auto& [region, backing_id] : inventory.backings) clone_.adopt_backing(region, backing_id);
      clone_.close_untold(inventory.last_backing);
    }
    serving_ = true;
    return ok();
  }

  void attach(Loop& loop) override {
    loop_ = &loop;
    waits_->changed.emplace(loop);
    clone_.begin_issuing(loop, options_.issue_deadline);
    watch_line();
    open_root();
    look();
    unclaimed_timer_ = loop.after(kUnclaimed, [this] { clone_.close_unclaimed(); });
  }

  [[nodiscard]] bool adopted() const override { return adopted_; }
  [[nodiscard]] int pid() const override { return pid_; }
  std::vector<HeldMemory> take_held() override { return std::exchange(held_memory_, {}); }
  std::vector<confine::LiveGrant> take_live_grants() override { return std::exchange(live_grants_, {}); }

  [[nodiscard]] bool knows_earlier_grants() const override { return knows_grants_; }
  [[nodiscard]] KeeperHealth health() const override {
    return {pid_,          serving_, adopted_, holdings_.given(), holdings_.size() - holdings_.given(),
            replacements_, last_end_};
  }

  void set_issue_deadline(std::chrono::milliseconds deadline) override {
    options_.issue_deadline = deadline;
    clone_.set_deadline(deadline);
  }

  Task<Result<void>> hold(RegionId region, BorrowedFd fd) override {
    const Time until = now() + options_.issue_deadline;
    const std::shared_ptr<Waits> waits = waits_;
    guard(region, fd);
    while (!waits->over && !holdings_.held(region)) {
      if (is_full()) {
        drop(region);
        co_return failure(ErrorCode::exhausted,
                          "the keeper holds " + std::to_string(max_held_) +
                              " regions, as many as fs.nr_open allows; raise that limit");
      }
      if (now() >= until) {
        drop(region);
        co_return failure(ErrorCode::unavailable, "no keeper took the region's memory into custody within " +
                                                      format_duration(options_.issue_deadline) +
                                                      "; ask again");
      }
      const bool still = co_await wait(until);
      if (!still) break;
    }
    if (waits->over) co_return failure(ErrorCode::unavailable, "mapcapd is shutting down");
    co_return ok();
  }

  void guard(RegionId region, BorrowedFd fd) override {
    holdings_.add(region, fd);
    send_unsent();
  }

  void drop(RegionId region) override {
    if (holdings_.drop(region) && line_ != nullptr) unsent_.push_back({Kind::drop, 0, region.value, 0});
    send_unsent();
  }

  [[nodiscard]] std::vector<RegionId> unheld(std::size_t most) const override {
    return holdings_.unheld(most);
  }

  Task<bool> settle(std::chrono::nanoseconds patience) override {
    const Time until = now() + patience;
    const std::shared_ptr<Waits> waits = waits_;
    for (;;) {
      if (waits->over) co_return false;
      const bool needed = holdings_.size() != 0;
      if ((serving_ || !needed) && unsent_.empty() && holdings_.given() == holdings_.size()) co_return true;
      if (now() >= until) co_return false;
      const bool still = co_await wait(until);
      if (!still) co_return false;
    }
  }

  Task<bool> prepare_to_leave(std::chrono::nanoseconds patience) override {
    const std::shared_ptr<Waits> waits = waits_;
    for (bool more = true; more;) {
      more = clone_.detach_some([this](RegionId region) { return holdings_.knows(region); });
      if (more) co_await loop_->yield();
      if (waits->over) co_return false;
    }
    co_return co_await settle(patience);
  }

  void set_accounts(policy::Subordinates accounts) override { options_.accounts = std::move(accounts); }
  void on_release(std::function<void(confine::GrantId)> released) override {
    released_ = std::move(released);
  }
  void on_ended(std::function<void(const std::string&)> told) override { ended_ = std::move(told); }
  void on_replaced(std::function<void()> replaced) override { replaced_ = std::move(replaced); }
  confine::Confiner& clone() override { return clone_; }
  [[nodiscard]] std::string clone_unavailable() const override { return clone_unavailable_; }

  bool leave() override {
    // Clones of other people's files have no region here.
    const bool keeps = holdings_.size() != 0 || clone_.has_grants();
    if (keeps && options_.idle) return true;
    shut_down();
    return false;
  }

  void shut_down() override {
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
    ending_timer_ = {};
    look_timer_ = {};
    retry_timer_ = {};
    unclaimed_timer_ = {};
  }

  /// Forks a keeper and waits for it.
  Result<void> begin() {
    MAPCAP_TRY(KeeperHandle handle,
               fork_keeper(directory_.borrow(), kRequestTimeout, options_.idle, options_.accounts));
    auto inventory = receive_inventory(handle, options_);
    if (!inventory) {
      signal_keeper(handle.process.borrow(), SIGKILL);
      return inventory.error();
    }
    take(std::move(handle), inventory.value());
    serving_ = true;
    return ok();
  }

 private:
  /// Of those who wait for the keeper: may outlive it.
  struct Waits {
    std::optional<Event> changed;
    bool over = false;
  };

  /// The socket, and whoever watches it. Outlives the object until the loop has noticed.
  struct Line {
    Fd socket;
    std::optional<Loop::Watch> watch;
    std::optional<Event> more;  ///< There is something to be sent.
    bool blocked = false;       ///< What is to be sent waits for talk().
    KeeperClient* owner = nullptr;
  };

  /// `told`: what it said of itself.
  void take(KeeperHandle handle, const Inventory& told) {
    connect(std::move(handle));
    max_held_ = told.max_held;
    holds_many_ = told.holds_many;
    tells_published_ = told.tells_published;
  }

  void connect(KeeperHandle handle) {
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

  void leave_line() {
    serving_ = false;
    unsent_.clear();
    if (line_ == nullptr) return;
    line_->owner = nullptr;
    // The watch may keep the descriptor for a moment; the keeper must see the end now.
    ::shutdown(line_->socket.get(), SHUT_RDWR);
    if (line_->watch) line_->watch->cancel();
    if (line_->more) line_->more->notify();
    line_.reset();
  }

  void watch_line() {
    if (line_ == nullptr) return;
    line_->watch.emplace(*loop_, line_->socket.borrow());
    line_->more.emplace(*loop_);
    spawn(listen(line_));
    spawn(talk(line_));
  }

  static Task<void> listen(std::shared_ptr<Line> line) {
    for (;;) {
      const bool ready = co_await line->watch->readable();
      if (!ready || line->owner == nullptr) co_return;
      line->owner->hear();
      if (line->owner == nullptr) co_return;
    }
  }

  /// Sends what could not be sent at once, as soon as the keeper's queue has room.
  static Task<void> talk(std::shared_ptr<Line> line) {
    while (line->owner != nullptr) {
      const Sent sent = line->owner->send_some();
      line->blocked = sent != Sent::all;
      if (sent == Sent::full) {
        const bool ready = co_await line->watch->writable();
        if (!ready) co_return;
      } else if (sent == Sent::failed) {
        co_await line->owner->loop_->sleep(kAfterFailure);
      } else if (sent == Sent::more) {
        co_await line->owner->loop_->yield();
      } else {
        co_await line->more->wait();
      }
    }
  }

  void hear() {
    const std::shared_ptr<Line> line = line_;
    // Bounded, so that a burst of releases does not hold the loop: what is left makes the socket readable
    // again.
    for (int i = 0; i < 16 && line->owner != nullptr; ++i) {
      auto received = schema::receive(line->socket.borrow(), wire::kMaxPacket, 2);
      if (!received) return ended("");
      if (const auto* nothing = std::get_if<schema::Wait>(&received.value())) {
        if (*nothing == schema::Wait::closed) ended("");
        return;
      }
      silent_looks_ = 0;
      obey(std::move(std::get<schema::Incoming>(received.value())));
    }
  }

  void obey(schema::Incoming packet) {
    std::span<const std::byte> bytes(packet.bytes);
    const auto head = wire::take<wire::Head>(bytes);
    if (!head) return ended(kNoSense);
    switch (head->kind) {
      case Kind::released:
        for (std::uint64_t i = 0; i < head->value; ++i) {
          const auto grant = wire::take<std::uint64_t>(bytes);
          if (!grant) return ended(kNoSense);
          if (clone_.released(*grant) && released_) released_(*grant);
        }
        return;
      case Kind::pong:
        last_pong_ = std::max(last_pong_, head->value);
        tell_waiters();
        return;
      case Kind::ended:
        // All memory is in the broker's hands: a new keeper is the simplest way to a new connection.
        return ended("was ended because its FUSE connection was aborted");
      default:
        if (serving_ || !starting_.hear(std::move(packet))) return ended(kNoSense);
        if (starting_.complete) replaced();
    }
  }

  /// The keeper is gone, or no longer of use: make sure, and get another. `why`: what this broker did about
  /// it, or nothing when it ended by itself.
  void ended(const std::string& why) {
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

  /// Says how keepers ended once the kernel does, which is when the last of their descriptors is closed.
  void note_endings() {
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

  void start_again() {
    last_start_ = now();
    starting_ = Inventory();
    auto handle = fork_keeper(directory_.borrow(), kRequestTimeout, options_.idle, options_.accounts);
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

  void replaced() {
    max_held_ = starting_.max_held;
    holds_many_ = starting_.holds_many;
    tells_published_ = starting_.tells_published;
    starting_ = Inventory();
    serving_ = true;
    adopted_ = false;
    ++replacements_;
    open_root();
    send_unsent();
    tell_waiters();
    if (replaced_) replaced_();
  }

  void open_root() {
    const std::shared_ptr<IssuePath> path = clone_.path();
    if (!path) return;
    clone_.issuer().open_root(path, [line = std::weak_ptr<Line>(line_), path](Result<Fd> root) {
      const std::shared_ptr<Line> kept = line.lock();
      if (kept != nullptr && kept->owner != nullptr) kept->owner->opened_root(path, std::move(root));
    });
  }

  void opened_root(const std::shared_ptr<IssuePath>& path, Result<Fd> root) {
    if (path != clone_.path()) return;
    if (!root) return ended("was ended because its filesystem did not open");
    const BorrowedFd fds[] = {root.value().borrow()};
    // When the keeper's queue is full it keeps the mount, which serves as well.
    [[maybe_unused]] const auto sent = schema::send(line_->socket.borrow(), wire::packet({Kind::root}), fds);
  }

  /// Now and then: is the keeper alive? Also takes what could not be done at once.
  void look() {
    look_timer_ = loop_->after(options_.kill_after / kLooks, [this] { look(); });
    if (line_ == nullptr) return;
    if (silent_looks_ >= kLooks) {
      return ended("was killed after " + format_duration(options_.kill_after) + " of silence");
    }
    ++silent_looks_;
    ping();
  }

  void ping() {
    // One that waits to be sent asks as well as two.
    if (unsent_.empty() || unsent_.back().kind != Kind::ping) unsent_.push_back({Kind::ping});
    unsent_.back().value = ++last_ping_;
    send_unsent();
  }

  // ---- KeeperLink

  /// Before attach() nothing waits.
  [[nodiscard]] Time now() const override { return loop_ == nullptr ? Time::zero() : loop_->time().now(); }

  bool tell(const wire::Head& head) override {
    if (line_ == nullptr) return false;
    // One of an earlier version would take it for nonsense; its grants say nothing of publishing at all.
    if (head.kind == Kind::published && !tells_published_) return false;
    // What undoes something must get there in the end; what does something may be refused.
    if (head.kind == Kind::backed) {
      if (!serving_ || !unsent_.empty()) return false;
      auto sent = schema::send(line_->socket.borrow(), wire::packet(head));
      return sent && sent.value();
    }
    unsent_.push_back(head);
    send_unsent();
    return true;
  }

  Task<bool> wait(Time until) override {
    const std::shared_ptr<Waits> waits = waits_;
    if (waits->over || !waits->changed) co_return false;
    const Loop::Timer deadline = loop_->after(until - now(), [waits] { waits->changed->notify(); });
    co_await waits->changed->wait();
    co_return !waits->over;
  }

  Task<bool> answers(Time until) override {
    const std::shared_ptr<Waits> waits = waits_;
    const std::shared_ptr<Line> line = line_;
    if (line == nullptr) co_return false;
    ping();
    const std::uint64_t asked = last_ping_;
    while (!waits->over && line_ == line && last_pong_ < asked && now() < until) {
      const bool still = co_await wait(until);
      if (!still) co_return false;
    }
    co_return !waits->over && line_ == line && last_pong_ >= asked;
  }

  void tell_waiters() {
    if (waits_->changed) waits_->changed->notify();
  }

  [[nodiscard]] bool is_full() const { return serving_ && holdings_.given() >= max_held_; }

  /// failed: the kernel lacks something (ETOOMANYREFS, ENOMEM), or the keeper's end is gone, which the watch
  /// tells.
  enum class Sent : std::uint8_t { all, more, full, failed };

  /// Single words first: they are few, and what they undo is to be undone in the order that it was done in.
  Sent send_some() {
    if (line_ == nullptr) return Sent::all;
    while (!unsent_.empty()) {
      auto sent = schema::send(line_->socket.borrow(), wire::packet(unsent_.front()));
      if (!sent) return Sent::failed;
      if (!sent.value()) return Sent::full;
      unsent_.pop_front();
      tell_waiters();
    }
    if (!serving_) return Sent::all;
    for (int i = 0; i < kBatchesAtOnce; ++i) {
      const std::size_t room = max_held_ - std::min<std::size_t>(max_held_, holdings_.given());
      const Holdings::Batch batch = holdings_.next(std::min(room, holds_many_ ? wire::kFdsPerPacket : 1));
      if (batch.regions.empty()) return Sent::all;
      const wire::Bytes packet = batch.regions.size() == 1
                                     ? wire::packet({Kind::hold, 0, batch.regions.front(), 0})
                                     : wire::hold_packet(batch.regions);
      auto sent = schema::send(line_->socket.borrow(), packet, batch.fds);
      if (!sent) return Sent::failed;
      if (!sent.value()) return Sent::full;
      holdings_.sent(batch);
      tell_waiters();
    }
    return Sent::more;
  }

  /// Says what can be said now; the rest goes out as the keeper takes it.
  void send_unsent() {
    // Without asking again for each of thousands, which the queue has no room for.
    if (line_ == nullptr || line_->blocked) return;
    if (send_some() == Sent::all || !line_->more) return;
    line_->blocked = true;
    line_->more->notify();
  }

  KeeperOptions options_;
  Fd directory_;
  Loop* loop_ = nullptr;
  CloneConfiner clone_;
  std::string clone_unavailable_;
  int pid_ = 0;
  Fd process_;
  std::shared_ptr<Line> line_;
  bool serving_ = false;  ///< The keeper has told its inventory.
  bool adopted_ = false;
  bool knows_grants_ = false;
  Inventory starting_;
  Time last_start_{0};
  std::chrono::milliseconds pause_ = kBetweenStarts;  ///< Between one start and the next.
  std::uint64_t max_held_ = 0;
  bool holds_many_ = true;
  bool tells_published_ = true;
  Holdings holdings_;
  std::shared_ptr<Waits> waits_ = std::make_shared<Waits>();
  std::deque<wire::Head> unsent_;
  int silent_looks_ = 0;
  std::uint64_t last_ping_ = 0;
  std::uint64_t last_pong_ = 0;
  std::uint64_t replacements_ = 0;
  std::string last_end_;
  struct Ending {
    Fd process;
    std::string why;  ///< Empty: it ended by itself.
  };
  std::vector<Ending> endings_;  ///< Those that the kernel has not put away yet.
  std::vector<HeldMemory> held_memory_;
  std::vector<confine::LiveGrant> live_grants_;
  std::function<void(confine::GrantId)> released_;
  std::function<void(const std::string&)> ended_;
  std::function<void()> replaced_;
  Loop::Timer ending_timer_;
  Loop::Timer look_timer_;
  Loop::Timer retry_timer_;
  Loop::Timer unclaimed_timer_;
};

}  // namespace

Result<std::unique_ptr<Keeper>> Keeper::adopt_or_start(const KeeperOptions& options) {
  MAPCAP_TRY(Fd directory, open_state_directory(options.state_directory));
  auto keeper = std::make_unique<KeeperClient>(options, std::move(directory));
  MAPCAP_TRY_VOID(keeper->adopt());
  return std::unique_ptr<Keeper>(std::move(keeper));
}

}  // namespace mapcap::broker::keeper
