// Revokes that wait for holders, counted for each user.
//
// They wait for as long as the holders please, also when the connection that asked has made room for
// somebody: so a user has no more of them at a time than he may have connections.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>

namespace mapcap::broker {

class Drains {
 public:
  /// One of them; ends when destroyed. Move-only.
  class [[nodiscard]] Place {
   public:
    Place(Drains& drains, std::uint32_t account) : drains_(&drains), account_(account) {
      ++drains.count_[account];
    }
    Place(Place&& other) noexcept
        : drains_(std::exchange(other.drains_, nullptr)), account_(other.account_) {}
    Place& operator=(Place&&) = delete;
    ~Place() {
      if (drains_ == nullptr) return;
      const auto found = drains_->count_.find(account_);
      if (--found->second == 0) drains_->count_.erase(found);
    }

   private:
    Drains* drains_;
    std::uint32_t account_;
  };

  Drains() = default;
  Drains(const Drains&) = delete;
  Drains& operator=(const Drains&) = delete;

  [[nodiscard]] std::size_t of(std::uint32_t account) const {
    const auto found = count_.find(account);
    return found == count_.end() ? 0 : found->second;
  }

 private:
  std::unordered_map<std::uint32_t, std::size_t> count_;
};

}  // namespace mapcap::broker
