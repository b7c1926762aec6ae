// One holder for each key at a time, in the order of asking. For the loop's thread.
#pragma once

#include <coroutine>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/wait/loop.h"

namespace mapcap::broker::ledger {

class KeyLocks {
 public:
  explicit KeyLocks(broker::Loop& loop) : loop_(loop) {}

  /// Holds a key until it goes. Must not outlive the locks.
  class Guard {
   public:
    Guard(KeyLocks& locks, std::uint64_t key) : locks_(&locks), key_(key) {}
    Guard(Guard&& other) noexcept : locks_(std::exchange(other.locks_, nullptr)), key_(other.key_) {}
    Guard& operator=(Guard&&) = delete;
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() {
      if (locks_ != nullptr) locks_->unlock(key_);
    }

   private:
    KeyLocks* locks_;
    std::uint64_t key_;
  };

  /// auto held = co_await locks.lock(key);
  auto lock(std::uint64_t key) {
    struct Awaiter {
      KeyLocks& locks;
      std::uint64_t key;
      [[nodiscard]] bool await_ready() const { return locks.waiting_.try_emplace(key).second; }
      void await_suspend(std::coroutine_handle<> waiting) {
        locks.waiting_.at(key).emplace_back(locks.loop_, waiting);
      }
      [[nodiscard]] Guard await_resume() const { return {locks, key}; }
    };
    return Awaiter{*this, key};
  }

  [[nodiscard]] bool held(std::uint64_t key) const { return waiting_.contains(key); }

 private:
  void unlock(std::uint64_t key) {
    auto at = waiting_.find(key);
    if (at->second.empty()) {
      waiting_.erase(at);
      return;
    }
    // From the loop, not from here: the holder's own stack is still unwinding. The key stays held meanwhile.
    const broker::Waiter next = at->second.front();
    at->second.erase(at->second.begin());
    loop_.post(next);
  }

  broker::Loop& loop_;
  std::unordered_map<std::uint64_t, std::vector<broker::Waiter>> waiting_;
};

}  // namespace mapcap::broker::ledger
