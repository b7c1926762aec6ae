// A pool that notes which thread does what to it.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "broker/pool/pool.h"

namespace mapcap::test {

class WatchedPool final : public broker::pool::Pool {
 public:
  using Extent = broker::pool::Extent;
  using Progress = broker::pool::Progress;

  explicit WatchedPool(std::unique_ptr<Pool> inner) : inner_(std::move(inner)) {}

  /// What a pool says that populates what it carves.
  void be_slow() { quick_ = false; }

  /// Runs on the thread that asks whether somebody can write; what it fails with is what the pool says.
  void on_forbid(std::function<Result<void>()> first) { on_forbid_ = std::move(first); }

  /// How often `what` ("carve", "cut", "held", "free", "bad_blocks", "discard") was done by the calling
  /// thread, and by others.
  struct Count {
    std::size_t here = 0;
    std::size_t elsewhere = 0;
  };
  [[nodiscard]] Count count(const std::string& what) const {
    const std::lock_guard lock(mutex_);
    Count count;
    for (const auto& [one, thread] : calls_) {
      if (one == what) ++(thread == std::this_thread::get_id() ? count.here : count.elsewhere);
    }
    return count;
  }

  [[nodiscard]] const broker::pool::Facts& facts() const override { return inner_->facts(); }
  Result<ByteCount> capacity_for(const broker::pool::Wanted& wanted) override {
    note("capacity_for");
    return inner_->capacity_for(wanted);
  }
  [[nodiscard]] bool quick() const override { return quick_ && inner_->quick(); }
  [[nodiscard]] bool shares_description() const override { return inner_->shares_description(); }
  Result<Extent> carve(const broker::pool::Carving& carving, const Progress& progress) override {
    note("carve");
    MAPCAP_TRY(Extent made, inner_->carve(carving, progress));
    made.keep();
    return Extent(*this, made.take_fd(), made.size(), made.word());
  }
  Result<Extent> reattach(const broker::ledger::RegionRecord& record, Fd held) override {
    return inner_->reattach(record, std::move(held));
  }
  Result<void> cut(Extent& extent, SealKind seal) override {
    note("cut");
    return inner_->cut(extent, seal);
  }
  /// What held() answers from now on, for tests whose holders are only numbers.
  void held_while(std::function<bool()> somebody) { somebody_ = std::move(somebody); }
  Result<bool> held(const Extent& extent) override {
    note("held");
    return somebody_ ? Result<bool>(somebody_()) : inner_->held(extent);
  }
  Result<void> forbid_writing(const Extent& extent) override {
    note("forbid_writing");
    if (on_forbid_) {
      MAPCAP_TRY_VOID(on_forbid_());
    }
    return inner_->forbid_writing(extent);
  }
  [[nodiscard]] bool unwritable(const Extent& extent) const override { return inner_->unwritable(extent); }
  Result<void> free(Extent& extent, const Progress& progress) override {
    note("free");
    return inner_->free(extent, progress);
  }
  bool free_at_once(Extent& extent) override {
    note("free_at_once");
    return inner_->free_at_once(extent);
  }
  [[nodiscard]] bool wears_out() const override { return true; }
  std::uint32_t bad_blocks(std::uint64_t) override {
    note("bad_blocks");
    return 3;
  }
  void discard(Extent& extent) noexcept override {
    note("discard");
    inner_->discard(extent);
  }

 private:
  void note(const char* what) {
    const std::lock_guard lock(mutex_);
    calls_.emplace_back(what, std::this_thread::get_id());
  }

  std::unique_ptr<Pool> inner_;
  bool quick_ = true;
  std::function<Result<void>()> on_forbid_;
  std::function<bool()> somebody_;
  mutable std::mutex mutex_;
  std::vector<std::pair<std::string, std::thread::id>> calls_;
};

}  // namespace mapcap::test
