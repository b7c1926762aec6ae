// What a verb hands to its session: the reply, the descriptor that goes with it, and how to take it all back.
#pragma once

#include <functional>
#include <utility>

#include "mapcap/fd.h"
#include "schema/reply.h"

namespace mapcap::broker {

/// Runs when destroyed, unless disarmed. Move-only.
class [[nodiscard]] Undo {
 public:
  Undo() = default;
  explicit Undo(std::function<void()> action) : action_(std::move(action)) {}
  Undo(Undo&& other) noexcept : action_(std::exchange(other.action_, nullptr)) {}
  Undo& operator=(Undo&& other) noexcept {
    if (this != &other) {
      run();
      action_ = std::exchange(other.action_, nullptr);
    }
    return *this;
  }
  ~Undo() { run(); }
  void disarm() { action_ = nullptr; }

 private:
  void run() {
    if (auto action = std::exchange(action_, nullptr)) action();
  }
  std::function<void()> action_;
};

/// A reply that cannot be sent unwinds: its descriptor closes and `undo` runs. Once sent, `undo` is disarmed,
/// and memory goes back only through reclaim.
struct Delivery {
  schema::ReplyBody body;
  Fd fd;
  Undo undo;
  std::function<void()> afterwards;  ///< Once the reply was sent, or could not be.
};

/// A reply that nothing goes with.
inline Delivery reply_of(schema::ReplyBody body) {
  Delivery delivery;
  delivery.body = std::move(body);
  return delivery;
}

}  // namespace mapcap::broker
