// A ledger's medium that writes down every store, flush, fence and sync, so that a test can ask afterwards
// what a kill or a power cut at any moment would have left. It can leave out the durability calls of one step
// at a time (a mutant), and fail chosen syncs.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "broker/ledger/medium/medium.h"

namespace mapcap::test {

struct Event {
  enum class Kind : std::uint8_t {
    store,  ///< offset, word.
    flush,  ///< range.
    fence,
    sync_begin,  ///< What was stored before it is covered. At take_flushed(): the ledger may rely on no more.
    sync_done,   ///< The range of the sync_begin is durable.
    sync_failed,  ///< The range was perhaps written; the kernel takes it for clean now.
    touch,        ///< The page at range.offset is dirty, or all pages when range.size is 0.
    grow,         ///< range.size: the new size.
  };
  Kind kind = Kind::store;
  std::size_t offset = 0;
  std::uint64_t word = 0;
  broker::ledger::Range range;
};

/// A durability call that a mutant leaves out.
struct Mutation {
  enum class Call : std::uint8_t { none, flush, settle, redirty };  ///< settle: the fence or the sync.
  Call call = Call::none;
  broker::ledger::Step step = broker::ledger::Step::record;
};
std::string to_string(const Mutation& mutation);

class RecordingMedium final : public broker::ledger::Medium {
 public:
  /// `view`: what a running program sees; `durable`: what a power cut would leave at worst. Equal sizes.
  RecordingMedium(Granularity granularity, std::vector<std::byte> durable, std::vector<std::byte> view,
                  Mutation mutation = {});

  [[nodiscard]] std::string_view name() const override { return "recording"; }
  [[nodiscard]] std::span<const std::byte> bytes() const override { return {view_.data(), size_}; }
  [[nodiscard]] Granularity granularity() const override { return granularity_; }
  Result<void> preload(broker::ledger::Range) override { return ok(); }
  Result<void> prepare(broker::ledger::Range) override { return ok(); }
  void store(std::size_t offset, std::span<const std::byte> data) override;
  void store_word(std::size_t offset, std::uint64_t word) override;
  void flush(broker::ledger::Range range, broker::ledger::Step step) override;
  void fence(broker::ledger::Step step) override;
  std::optional<broker::ledger::Range> take_flushed() override;
  Result<void> sync(broker::ledger::Range range, broker::ledger::Step step) override;
  void redirty() override;
  Result<void> grow(std::size_t size) override;
  void adopt_growth() override;

  /// Called by sync() and grow() before they end, on their thread: a place to wait in. Not while one of them
  /// runs.
  void set_pause(std::function<void()> pause) { pause_ = std::move(pause); }

  /// The next syncs fail with EIO, as many as given.
  void fail_syncs(int count);
  /// grow() fails with ENOSPC for as long as set.
  void refuse_growth(bool refuse);

  /// How much is written down by now.
  std::size_t position();
  /// All of it, and what was durable at the beginning. Not while anything runs.
  [[nodiscard]] const std::vector<Event>& events() const { return events_; }
  [[nodiscard]] const std::vector<std::byte>& initially_durable() const { return durable_; }
  /// The bytes in which `durable` and `view` differed at the beginning, as stores.
  [[nodiscard]] const std::vector<Event>& initially_dirty() const { return dirty_; }

 private:
  [[nodiscard]] bool left_out(Mutation::Call call, broker::ledger::Step step) const;
  void record(Event event);

  Granularity granularity_;
  Mutation mutation_;
  std::vector<std::byte> durable_;
  std::vector<std::byte> view_;  // Reserved far ahead: growing never moves it.
  std::size_t size_;
  std::vector<Event> dirty_;
  std::optional<broker::ledger::Range> flushed_;
  std::mutex mutex_;
  std::vector<Event> events_;
  std::function<void()> pause_;
  std::size_t grown_ = 0;
  int failing_syncs_ = 0;
  bool refuse_growth_ = false;
};

}  // namespace mapcap::test
