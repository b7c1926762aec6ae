// The broker's end of the keeper: one object that always has a keeper, is getting one, or says why not. Loop only.
//
// The class is one, its parts are files: keeper.cpp is what callers ask of it, line.cpp what is said over the socket,
// replacement.cpp how it gets a keeper, and the next.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/keeper/clone.h"
#include "broker/keeper/forge.h"
#include "broker/keeper/holdings.h"
#include "broker/keeper/keeper.h"
#include "broker/keeper/start.h"
#include "broker/keeper/wire.h"
#include "broker/wait/event.h"

namespace mapcap::broker::keeper {

/// A keeper that ends is replaced at once, but not more than fifty times a second; one that ends before it
/// serves makes the next wait twice as long, up to a second.
inline constexpr std::chrono::milliseconds kBetweenStarts{20};
/// The kernel's own net, for a keeper that is stopped while no broker lives: it aborts the connection, and
/// holders who wait for an answer get one. Far above kill_after, since it costs all grants their
/// self-description.
inline constexpr std::chrono::seconds kRequestTimeout{60};

class KeeperClient final : public Keeper, private KeeperLink {
 public:
  KeeperClient(KeeperOptions options, Fd directory)
      : options_(with_forge(std::move(options))),
        directory_(std::move(directory)),
        clone_(*this, options_.forge) {}

  ~KeeperClient() override;
  Result<void> adopt();
  Result<void> reopen_directory() override;
  void attach(Loop& loop) override;
  [[nodiscard]] bool adopted() const override { return adopted_; }
  [[nodiscard]] int pid() const override { return pid_; }
  std::vector<HeldMemory> take_held() override { return std::exchange(held_memory_, {}); }
  std::vector<confine::LiveGrant> take_live_grants() override { return std::exchange(live_grants_, {}); }

  [[nodiscard]] bool knows_earlier_grants() const override { return knows_grants_; }
  [[nodiscard]] KeeperHealth health() const override;
  void set_issue_deadline(std::chrono::milliseconds deadline) override;
  Task<Result<void>> hold(RegionId region, BorrowedFd fd) override;
  void guard(RegionId region, BorrowedFd fd) override;
  void guard_socket(RegionId number, BorrowedFd socket) override;
  void drop(RegionId region) override;
  [[nodiscard]] std::vector<RegionId> unheld(std::size_t most) const override;
  Task<bool> settle(std::chrono::nanoseconds patience) override;
  Task<bool> prepare_to_leave(std::chrono::nanoseconds patience) override;
  void set_accounts(policy::Subordinates accounts) override { options_.accounts = std::move(accounts); }
  void on_release(std::function<void(confine::GrantId)> released, std::function<void()> told) override;
  void on_ended(std::function<void(const std::string&)> told) override { ended_ = std::move(told); }
  void on_replaced(std::function<void()> replaced) override { replaced_ = std::move(replaced); }
  confine::Confiner& clone() override { return clone_; }
  [[nodiscard]] std::string clone_unavailable() const override { return clone_unavailable_; }

  bool leave() override;
  void shut_down() override;

  /// Forks a keeper and waits for it.
  Result<void> begin();

 private:
  static KeeperOptions with_forge(KeeperOptions options) {
    if (!options.forge) options.forge = own_forge();
    return options;
  }

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
  void take(KeeperHandle handle, const Inventory& told);
  void take_abilities(const Inventory& told);
  void connect(KeeperHandle handle);
  void leave_line();
  void watch_line();
  static Task<void> listen(std::shared_ptr<Line> line);

  /// Sends what could not be sent at once, as soon as the keeper's queue has room.
  static Task<void> talk(std::shared_ptr<Line> line);
  void hear();
  /// False where mostly nothing follows at once.
  bool obey(schema::Incoming packet);

  /// The keeper is gone, or no longer of use: make sure, and get another. `why`: what this broker did about
  /// it, or nothing when it ended by itself.
  void ended(const std::string& why);

  /// Says how keepers ended once the kernel does, which is when the last of their descriptors is closed.
  void note_endings();
  void start_again();
  void replaced();
  void open_root();
  void opened_root(const std::shared_ptr<IssuePath>& path, Result<Fd> root);

  /// Now and then: is the keeper alive? Also takes what could not be done at once.
  void look();
  void ping();

  // ---- KeeperLink

  bool give_board(BorrowedFd board) override;
  [[nodiscard]] bool knows_ready_opens() const override { return knows_ready_opens_; }
  void hold_blank(RegionId region, BorrowedFd memory) override;
  [[nodiscard]] bool holds(RegionId region) const override { return holdings_.held(region); }
  void let_go(RegionId region) override { drop(region); }
  void flush() override { send_unsent(); }
  [[nodiscard]] std::size_t room() const override;

  /// Before attach() nothing waits.
  [[nodiscard]] Time now() const override { return loop_ == nullptr ? Time::zero() : loop_->time().now(); }

  bool tell(const wire::Head& head) override;
  void unbacked(RegionId region) override;
  void told_soon();
  Task<bool> wait(Time until) override;
  Task<bool> answers(Time until) override;
  void tell_waiters();
  [[nodiscard]] bool is_full() const { return serving_ && holdings_.given() >= max_held_; }

  /// failed: the kernel lacks something (ETOOMANYREFS, ENOMEM), or the keeper's end is gone, which the watch
  /// tells.
  enum class Sent : std::uint8_t { all, more, full, failed };

  /// Single words first: they are few, and what they undo is to be undone in the order that it was done in.
  Sent send_some();
  Sent send_forgotten();
  /// What told_soon() waits with.
  void tell_forgotten();

  /// Says what can be said now; the rest goes out as the keeper takes it.
  void send_unsent();
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
  bool knows_blanks_ = false;
  bool knows_ready_opens_ = false;
  bool forgets_many_ = false;
  Holdings holdings_;
  std::shared_ptr<Waits> waits_ = std::make_shared<Waits>();
  std::deque<wire::Head> unsent_;
  /// Regions that the keeper is to forget the memory, or the backing, of: told of together. They wait for nothing that
  /// is said otherwise, nor does that wait for them.
  std::vector<std::uint64_t> dropped_;
  std::vector<std::uint64_t> unbacked_;
  enum class Telling : std::uint8_t { no, later, now };
  Telling telling_ = Telling::no;  ///< Whether, and when, tell_forgotten() comes.
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
  std::vector<std::string> left_names_;  ///< Of an earlier broker's opens, until attach().
  std::function<void(confine::GrantId)> released_;
  std::function<void()> told_released_;
  std::function<void(const std::string&)> ended_;
  std::function<void()> replaced_;
  Loop::Timer forget_timer_;
  Loop::Timer ending_timer_;
  Loop::Timer look_timer_;
  Loop::Timer retry_timer_;
  Loop::Timer unclaimed_timer_;
};

}  // namespace mapcap::broker::keeper
