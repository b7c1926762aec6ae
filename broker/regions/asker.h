// Whoever sent a request, while it is under way.
#pragma once

#include <functional>
#include <utility>

namespace mapcap::broker {

/// Whether whoever asked is still there to be answered: for what waits for as long as others please, and is not worth
/// waiting for without him.
class Asker {
 public:
  [[nodiscard]] bool gone() const { return gone_; }
  /// Called once when he goes, unless he has gone; nothing: not any more.
  void on_gone(std::function<void()> told) { told_ = std::move(told); }
  void leave() {
    gone_ = true;
    if (const auto told = std::exchange(told_, nullptr)) told();
  }

 private:
  bool gone_ = false;
  std::function<void()> told_;
};

}  // namespace mapcap::broker
