// The broker's end of the keeper: one object that always has a keeper, is getting one, or says why not.
#include "broker/confine/keeper.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <optional>
#include <unordered_set>

#include "broker/confine/clone.h"
#include "broker/confine/keeper_start.h"
#include "broker/confine/keeper_wire.h"

namespace mapcap::broker::confine {
namespace {

using schema::BorrowedFd;
using schema::error;
using schema::ErrorCode;
using schema::Result;
using schema::UniqueFd;
using wire::Kind;

/// Looks at the keeper a killing interval: so many without an answer and it is killed. Counting looks, rather
/// than time, keeps a machine that was suspended from killing its keeper on waking up.
constexpr int kLooks = 4;
/// A keeper that ends is replaced at once, but not more than fifty times a second; one that ends before it
/// serves makes the next wait twice as long, up to a second.
constexpr std::chrono::milliseconds kBetweenStarts{20};
constexpr std::chrono::milliseconds kBetweenStartsAtMost{1000};
constexpr std::chrono::milliseconds kFarewell{1000};
constexpr std::chrono::seconds kUnclaimed{30};
/// The kernel's own net, for a keeper that is stopped while no broker lives: it aborts the connection, and
/// holders who wait for an answer get one. Far above kill_after, since it costs all grants their
/// self-description.
constexpr std::chrono::seconds kRequestTimeout{60};

class KeeperClient final : public Keeper {
 public:
  KeeperClient(KeeperOptions options, UniqueFd directory)
      : options_(std::move(options)),
        directory_(std::move(directory)),
        clone_([this](const wire::Head& head) { return tell(head); }) {}

  ~KeeperClient() override {
    // The keeper lives on, as it does when the broker is killed.
    leave_line();
    clone_.end_issuing();
    clone_.disconnect("mapcapd is shutting down");
  }

  Result<void> adopt() {
    MAPCAP_TRY(auto surviving, adopt_keeper(directory_.borrow(), options_.kill_after));
    if (!surviving) return begin();
    auto& [handle, inventory] = *surviving;
    adopted_ = true;
    held_memory_ = std::move(inventory.memory);
    if (!handle.clone.path) return take_over_memory(std::move(handle));
    live_grants_ = std::move(inventory.grants);
    max_held_ = inventory.max_held;
    for (const HeldMemory& memory : held_memory_) held_.insert(memory.region.value);
    const std::int32_t last_backing = inventory.last_backing;
    take(std::move(handle));
    for (const auto& [region, backing_id] : inventory.backings) clone_.adopt_backing(region, backing_id);
    for (const LiveGrant& grant : live_grants_) clone_.adopt_grant(grant.grant);
    clone_.close_untold(last_backing);
    serving_ = true;
    return schema::ok();
  }

  void attach(Loop& loop) override {
    loop_ = &loop;
    clone_.begin_issuing(loop, options_.issue_deadline);
    watch_line();
    open_root();
    look();
    unclaimed_timer_ = loop.after(kUnclaimed, [this] { clone_.close_unclaimed(); });
  }

  [[nodiscard]] bool adopted() const override { return adopted_; }
  [[nodiscard]] int pid() const override { return pid_; }
  std::vector<HeldMemory> take_held() override { return std::exchange(held_memory_, {}); }
  std::vector<LiveGrant> take_live_grants() override { return std::exchange(live_grants_, {}); }

  Result<void> hold(schema::RegionId region, BorrowedFd fd) override {
    if (!serving_ || !send_unsent())
      return error(ErrorCode::unavailable, "the keeper does not answer; ask again");
    if (held_.size() >= max_held_) {
      return error(ErrorCode::exhausted, "the keeper holds " + std::to_string(held_.size()) +
                                             " regions, as many as fs.nr_open allows; raise that limit");
    }
    const BorrowedFd fds[] = {fd};
    MAPCAP_TRY(const bool sent,
               schema::send(line_->socket.borrow(), wire::packet({Kind::hold, 0, region.value, 0}), fds));
    if (!sent) return error(ErrorCode::unavailable, "the keeper does not answer; ask again");
    held_.insert(region.value);
    return schema::ok();
  }

  void drop(schema::RegionId region) override {
    if (held_.erase(region.value) == 0 || line_ == nullptr) return;
    unsent_.push_back({Kind::drop, 0, region.value, 0});
    send_unsent();
  }

  void on_release(std::function<void(GrantId)> released) override { released_ = std::move(released); }
  void on_replaced(std::function<void()> replaced) override { replaced_ = std::move(replaced); }
  Confiner& clone() override { return clone_; }
  [[nodiscard]] std::string clone_unavailable() const override { return clone_unavailable_; }

  void shut_down() override {
    if (line_ != nullptr) {
      unsent_.push_back({Kind::end});
      const bool told = send_unsent();
      pollfd gone{process_.get(), POLLIN, 0};
      if (!told || ::poll(&gone, 1, static_cast<int>(kFarewell.count())) != 1) {
        signal_keeper(process_.borrow(), SIGKILL);
        ::poll(&gone, 1, static_cast<int>(kFarewell.count()));
      }
      reap_keeper(process_.borrow());
    }
    unlink_socket(directory_.borrow());
    leave_line();
    clone_.disconnect("mapcapd is shutting down");
    look_timer_ = {};
    retry_timer_ = {};
    unclaimed_timer_ = {};
  }

  /// Forks a keeper and waits for it.
  Result<void> begin() {
    MAPCAP_TRY(KeeperHandle handle, fork_keeper(directory_.borrow(), kRequestTimeout, options_.idle));
    auto inventory = receive_inventory(handle, options_.kill_after);
    if (!inventory) {
      signal_keeper(handle.process.borrow(), SIGKILL);
      return inventory.error();
    }
    max_held_ = inventory.value().max_held;
    take(std::move(handle));
    serving_ = true;
    return schema::ok();
  }

 private:
  /// The socket, and whoever watches it. Outlives the object until the loop has noticed.
  struct Line {
    UniqueFd socket;
    std::optional<Loop::Watch> watch;
    KeeperClient* owner = nullptr;
  };

  /// A keeper whose FUSE connection was aborted still holds memory: it moves to a new keeper.
  Result<void> take_over_memory(KeeperHandle old) {
    clone_.disconnect("the keeper's filesystem was aborted");
    signal_keeper(old.process.borrow(), SIGKILL);
    old.socket.reset();
    MAPCAP_TRY_VOID(begin());
    for (const HeldMemory& memory : held_memory_) {
      MAPCAP_TRY_VOID(hold(memory.region, memory.fd.borrow()));
    }
    return schema::ok();
  }

  void take(KeeperHandle handle) {
    pid_ = handle.pid;
    process_ = std::move(handle.process);
    clone_unavailable_ = handle.clone_unavailable;
    if (clone_unavailable_.empty()) {
      clone_.connect(std::move(handle.clone));
    } else {
      clone_.disconnect(clone_unavailable_);
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
    line_.reset();
  }

  void watch_line() {
    if (line_ == nullptr) return;
    line_->watch.emplace(*loop_, line_->socket.borrow());
    spawn(listen(line_));
  }

  static Task<void> listen(std::shared_ptr<Line> line) {
    for (;;) {
      const bool ready = co_await line->watch->readable();
      if (!ready || line->owner == nullptr) co_return;
      line->owner->hear();
      if (line->owner == nullptr) co_return;
    }
  }

  void hear() {
    const std::shared_ptr<Line> line = line_;
    // Bounded, so that a burst of releases does not hold the loop: what is left makes the socket readable
    // again.
    for (int i = 0; i < 16 && line->owner != nullptr; ++i) {
      auto received = schema::receive(line->socket.borrow(), wire::kMaxPacket, 2);
      if (!received) return ended();
      if (const auto* nothing = std::get_if<schema::Wait>(&received.value())) {
        if (*nothing == schema::Wait::closed) ended();
        return;
      }
      silent_looks_ = 0;
      obey(std::move(std::get<schema::Incoming>(received.value())));
    }
  }

  void obey(schema::Incoming packet) {
    std::span<const std::byte> bytes(packet.bytes);
    const auto head = wire::take<wire::Head>(bytes);
    if (!head) return ended();
    switch (head->kind) {
      case Kind::released:
        for (std::uint64_t i = 0; i < head->value; ++i) {
          const auto grant = wire::take<std::uint64_t>(bytes);
          if (!grant) return ended();
          if (clone_.released(*grant) && released_) released_(*grant);
        }
        return;
      case Kind::pong:
        return;
      case Kind::ended:
        // All memory is in the broker's hands: a new keeper is the simplest way to a new connection.
        return ended();
      default:
        if (serving_ || !starting_.hear(std::move(packet))) return ended();
        if (starting_.complete) replaced();
    }
  }

  /// The keeper is gone, or no longer of use: make sure, and get another.
  void ended() {
    pause_ = serving_ ? kBetweenStarts : std::min(pause_ * 2, kBetweenStartsAtMost);
    leave_line();
    clone_.disconnect("the keeper ended and is being replaced; ask again");
    held_.clear();
    signal_keeper(process_.borrow(), SIGKILL);
    if (!reap_keeper(process_.borrow())) unreaped_.push_back(std::move(process_));
    process_.reset();
    pid_ = 0;
    retry_timer_ =
        loop_->after(last_start_ + pause_ - std::chrono::steady_clock::now(), [this] { start_again(); });
  }

  void start_again() {
    last_start_ = std::chrono::steady_clock::now();
    starting_ = Inventory();
    auto handle = fork_keeper(directory_.borrow(), kRequestTimeout, options_.idle);
    if (!handle) {
      clone_.disconnect("the keeper cannot be started again: " + handle.error().sentence);
      pause_ = std::min(pause_ * 2, kBetweenStartsAtMost);
      retry_timer_ = loop_->after(pause_, [this] { start_again(); });
      return;
    }
    take(std::move(handle.value()));
    watch_line();
  }

  void replaced() {
    max_held_ = starting_.max_held;
    starting_ = Inventory();
    serving_ = true;
    open_root();
    if (replaced_) replaced_();
  }

  void open_root() {
    const std::shared_ptr<IssuePath> path = clone_.path();
    if (!path) return;
    clone_.issuer().open_root(path, [line = std::weak_ptr<Line>(line_), path](Result<UniqueFd> root) {
      const std::shared_ptr<Line> kept = line.lock();
      if (kept != nullptr && kept->owner != nullptr) kept->owner->opened_root(path, std::move(root));
    });
  }

  void opened_root(const std::shared_ptr<IssuePath>& path, Result<UniqueFd> root) {
    if (path != clone_.path()) return;
    if (!root) return ended();
    const BorrowedFd fds[] = {root.value().borrow()};
    // When the keeper's queue is full it keeps the mount, which serves as well.
    [[maybe_unused]] const auto sent = schema::send(line_->socket.borrow(), wire::packet({Kind::root}), fds);
  }

  /// Now and then: is the keeper alive? Also takes what could not be done at once.
  void look() {
    look_timer_ = loop_->after(options_.kill_after / kLooks, [this] { look(); });
    std::erase_if(unreaped_, [](const UniqueFd& process) { return reap_keeper(process.borrow()); });
    if (line_ == nullptr) return;
    if (silent_looks_ >= kLooks) return ended();
    ++silent_looks_;
    if (send_unsent()) {
      unsent_.push_back({Kind::ping});
      send_unsent();
    }
  }

  bool tell(const wire::Head& head) {
    if (line_ == nullptr) return false;
    // What undoes something must get there in the end; what does something may be refused.
    if (head.kind == Kind::backed && (!serving_ || !send_unsent())) return false;
    unsent_.push_back(head);
    const bool sent = send_unsent();
    if (!sent && head.kind == Kind::backed) unsent_.pop_back();
    return sent;
  }

  /// False when the keeper's queue is full, or its end is gone (which the watch will tell).
  bool send_unsent() {
    while (!unsent_.empty()) {
      auto sent = schema::send(line_->socket.borrow(), wire::packet(unsent_.front()));
      if (!sent || !sent.value()) return false;
      unsent_.pop_front();
    }
    return line_ != nullptr;
  }

  KeeperOptions options_;
  UniqueFd directory_;
  Loop* loop_ = nullptr;
  CloneConfiner clone_;
  std::string clone_unavailable_;
  int pid_ = 0;
  UniqueFd process_;
  std::shared_ptr<Line> line_;
  bool serving_ = false;  ///< The keeper has told its inventory.
  bool adopted_ = false;
  Inventory starting_;
  std::chrono::steady_clock::time_point last_start_{};
  std::chrono::milliseconds pause_ = kBetweenStarts;  ///< Between one start and the next.
  std::uint64_t max_held_ = 0;
  std::unordered_set<std::uint64_t> held_;
  std::deque<wire::Head> unsent_;
  int silent_looks_ = 0;
  std::vector<UniqueFd> unreaped_;
  std::vector<HeldMemory> held_memory_;
  std::vector<LiveGrant> live_grants_;
  std::function<void(GrantId)> released_;
  std::function<void()> replaced_;
  Loop::Timer look_timer_;
  Loop::Timer retry_timer_;
  Loop::Timer unclaimed_timer_;
};

}  // namespace

Result<std::unique_ptr<Keeper>> Keeper::adopt_or_start(const KeeperOptions& options) {
  MAPCAP_TRY(UniqueFd directory, open_state_directory(options.state_directory));
  auto keeper = std::make_unique<KeeperClient>(options, std::move(directory));
  MAPCAP_TRY_VOID(keeper->adopt());
  return std::unique_ptr<Keeper>(std::move(keeper));
}

}  // namespace mapcap::broker::confine
