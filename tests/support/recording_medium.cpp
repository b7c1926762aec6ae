#include "tests/support/recording_medium.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "broker/ledger/table/slot.h"

namespace mapcap::test {

using broker::ledger::Range;
using broker::ledger::Step;

namespace {
constexpr std::size_t kMost = std::size_t{1} << 20U;
}

std::string to_string(const Mutation& mutation) {
  switch (mutation.call) {
    case Mutation::Call::none:
      return "nothing";
    case Mutation::Call::flush:
      return "flush_" + std::string(broker::ledger::to_string(mutation.step));
    case Mutation::Call::settle:
      return "settle_" + std::string(broker::ledger::to_string(mutation.step));
    case Mutation::Call::redirty:
      return "redirty";
  }
  return "unknown";
}

RecordingMedium::RecordingMedium(Granularity granularity, std::vector<std::byte> durable,
                                 std::vector<std::byte> view, Mutation mutation)
    : granularity_(granularity),
      mutation_(mutation),
      durable_(std::move(durable)),
      view_(std::move(view)),
      size_(view_.size()),
      grown_(size_) {
  MAPCAP_INVARIANT(durable_.size() == view_.size() && size_ <= kMost,
                   "a medium of two sizes, or too large a one");
  for (std::size_t offset = 0; offset < size_; offset += 8) {
    if (broker::ledger::load64(durable_, offset) == broker::ledger::load64(view_, offset)) continue;
    dirty_.push_back({Event::Kind::store, offset, broker::ledger::load64(view_, offset), {}});
  }
  view_.resize(kMost);
}

bool RecordingMedium::left_out(Mutation::Call call, Step step) const {
  return mutation_.call == call && mutation_.step == step;
}

void RecordingMedium::record(Event event) {
  const std::lock_guard lock(mutex_);
  events_.push_back(event);
}

void RecordingMedium::store(std::size_t offset, std::span<const std::byte> data) {
  for (std::size_t i = 0; i < data.size(); i += 8) store_word(offset + i, broker::ledger::load64(data, i));
}

void RecordingMedium::store_word(std::size_t offset, std::uint64_t word) {
  MAPCAP_INVARIANT(offset % 8 == 0 && offset + 8 <= size_, "a store beyond the medium");
  if (broker::ledger::load64(view_, offset) == word) {
    record({Event::Kind::touch, 0, 0, {offset, 8}});
    return;
  }
  broker::ledger::save64(view_, offset, word);
  record({Event::Kind::store, offset, word, {}});
}

void RecordingMedium::flush(Range range, Step step) {
  if (left_out(Mutation::Call::flush, step)) return;
  if (granularity_ != Granularity::page) {
    record({Event::Kind::flush, 0, 0, range});
    return;
  }
  const std::size_t from = std::min(range.offset, flushed_ ? flushed_->offset : range.offset);
  const std::size_t to =
      std::max(range.offset + range.size, flushed_ ? flushed_->offset + flushed_->size : 0);
  flushed_ = Range{from, to - from};
}

void RecordingMedium::fence(Step step) {
  if (!left_out(Mutation::Call::settle, step)) record({Event::Kind::fence, 0, 0, {}});
}

std::optional<Range> RecordingMedium::take_flushed() {
  record({Event::Kind::sync_begin, 0, 0, {}});
  return std::exchange(flushed_, std::nullopt);
}

Result<void> RecordingMedium::sync(Range range, Step step) {
  if (pause_) pause_();
  if (left_out(Mutation::Call::settle, step)) return ok();
  const std::lock_guard lock(mutex_);
  const bool fails = failing_syncs_ > 0;
  if (fails) --failing_syncs_;
  events_.push_back({fails ? Event::Kind::sync_failed : Event::Kind::sync_done, 0, 0, range});
  if (fails) return io_error("msync of the recording medium", EIO);
  return ok();
}

void RecordingMedium::redirty() {
  if (mutation_.call != Mutation::Call::redirty) record({Event::Kind::touch, 0, 0, {0, 0}});
}

Result<void> RecordingMedium::grow(std::size_t size) {
  if (pause_) pause_();
  const std::lock_guard lock(mutex_);
  if (refuse_growth_ || size > kMost) return io_error("growing the recording medium", ENOSPC);
  grown_ = std::max(grown_, size);
  return ok();
}

void RecordingMedium::adopt_growth() {
  const std::lock_guard lock(mutex_);
  if (grown_ == size_) return;
  size_ = grown_;
  events_.push_back({Event::Kind::grow, 0, 0, {0, size_}});
}

void RecordingMedium::fail_syncs(int count) {
  const std::lock_guard lock(mutex_);
  failing_syncs_ = count;
}

void RecordingMedium::refuse_growth(bool refuse) {
  const std::lock_guard lock(mutex_);
  refuse_growth_ = refuse;
}

std::size_t RecordingMedium::position() {
  const std::lock_guard lock(mutex_);
  return events_.size();
}

}  // namespace mapcap::test
