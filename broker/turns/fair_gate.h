// Turns at the broker's table, one user at a time.
//
// Every request waits for a turn. Users with waiting requests are served round robin, and each has at most
// kConcurrent requests under way, however many connections it opens. So a user who floods the socket delays
// another's request by no more than one request of each active user:
//
//     wait <= (active users) * (time of one request), independent of how much anybody has queued.
//
// Where nobody stands in line, a turn begins at once, without a way through the loop: at most one for each user and look
// at the sockets, so that one of each user's requests more may come first, whatever he has open.
//
// A user who had more than its ration of the loop's time (ration.h) stands aside until it has made up for it.
#pragma once

#include <sys/types.h>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <utility>

#include "broker/turns/ration.h"
#include "broker/wait/loop.h"

namespace mapcap::broker {

class FairGate {
 public:
  static constexpr std::size_t kConcurrent = 4;

  /// Measures what the loop does for each user from now on: one gate for a loop.
  explicit FairGate(Loop& loop);
  ~FairGate();
  FairGate(const FairGate&) = delete;
  FairGate& operator=(const FairGate&) = delete;

  /// A turn; it ends when this is destroyed.
  class [[nodiscard]] Turn {
   public:
    Turn(FairGate& gate, uid_t uid) : gate_(&gate), uid_(uid) {}
    Turn(Turn&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)), uid_(other.uid_) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() { end(); }
    void end() {
      if (FairGate* gate = std::exchange(gate_, nullptr)) gate->end(uid_);
    }

   private:
    FairGate* gate_;
    uid_t uid_;
  };

  /// For what the loop's meter does not know of: done before it was known for whom, or to be paid for beyond
  /// its cost.
  void charge(uid_t uid, Ration::Time cost);
  /// How long nothing more should be done for this user.
  [[nodiscard]] Ration::Time rest(uid_t uid);

  /// co_await gate.turn(uid, connection). `connection`: the one whose request it is; between two requests the loop has
  /// looked at all others.
  auto turn(uid_t uid, std::uint64_t connection) {
    struct Awaiter {
      FairGate& gate;
      uid_t uid;
      std::uint64_t connection;
      [[nodiscard]] bool await_ready() const { return gate.take_at_once(uid, connection); }
      void await_suspend(std::coroutine_handle<> waiting) { gate.enqueue(uid, waiting); }
      Turn await_resume() { return Turn(gate, uid); }
    };
    return Awaiter{*this, uid, connection};
  }

 private:
  struct User {
    std::deque<Waiter> waiting;
    std::size_t running = 0;
    bool in_line = false;  ///< Or aside, from where it comes back to the line.
    Loop::Timer aside;
  };

  static constexpr std::size_t kMostRemembered = 4096;

  bool take_at_once(uid_t uid, std::uint64_t connection);
  void enqueue(uid_t uid, std::coroutine_handle<> waiting);
  void end(uid_t uid);
  void stand_in_line(uid_t uid, User& user);
  void stand_aside(uid_t uid, User& user, Ration::Time rest);
  void schedule();
  void serve_one();

  Loop& loop_;
  std::unordered_map<uid_t, User> users_;
  std::deque<uid_t> line_;
  /// Which of his connections last asked for a turn. When the same one asks again, the loop has looked at the sockets in
  /// between; when another one does, it may be of the same look.
  std::unordered_map<uid_t, std::uint64_t> asked_last_;
  Ration ration_;
  bool scheduled_ = false;
};

}  // namespace mapcap::broker
