// A set of slot numbers with the lowest and the highest at hand: a bitmap under bitmaps, 64 to 1.
// One bit a slot and 1/63 more; each operation looks at one word a level (4 levels for 16 million slots).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace mapcap::broker::ledger {

class SlotSet {
 public:
  /// Makes room for slots [0, slots); keeps the members.
  void resize(std::uint32_t slots) {
    std::size_t words = (std::size_t{slots} + 63) / 64;
    for (std::size_t level = 0;; ++level) {
      if (level == levels_.size()) {
        levels_.emplace_back();
        levels_[level].resize(words);
        if (level > 0) summarize(level);
      }
      levels_[level].resize(words);
      if (words <= 1 && level + 1 >= levels_.size()) break;
      words = (words + 63) / 64;
    }
  }

  void insert(std::uint32_t slot) {
    if (contains(slot)) return;
    ++size_;
    std::size_t index = slot;
    for (auto& level : levels_) {
      level[index / 64] |= std::uint64_t{1} << (index % 64);
      index /= 64;
    }
  }

  void erase(std::uint32_t slot) {
    if (!contains(slot)) return;
    --size_;
    std::size_t index = slot;
    for (auto& level : levels_) {
      level[index / 64] &= ~(std::uint64_t{1} << (index % 64));
      if (level[index / 64] != 0) return;
      index /= 64;
    }
  }

  [[nodiscard]] bool contains(std::uint32_t slot) const {
    return (levels_.front()[slot / 64] >> (slot % 64) & 1U) != 0;
  }
  [[nodiscard]] std::uint32_t size() const { return size_; }

  [[nodiscard]] std::optional<std::uint32_t> lowest() const {
    return find([](std::uint64_t word) { return std::countr_zero(word); });
  }
  [[nodiscard]] std::optional<std::uint32_t> highest() const {
    return find([](std::uint64_t word) { return 63 - std::countl_zero(word); });
  }

 private:
  template <typename Pick>
  [[nodiscard]] std::optional<std::uint32_t> find(Pick pick) const {
    if (size_ == 0) return std::nullopt;
    std::size_t index = 0;
    for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) {
      index = index * 64 + static_cast<std::size_t>(pick((*level)[index]));
    }
    return static_cast<std::uint32_t>(index);
  }

  void summarize(std::size_t level) {
    const auto& below = levels_[level - 1];
    for (std::size_t i = 0; i < below.size(); ++i) {
      if (below[i] != 0) levels_[level][i / 64] |= std::uint64_t{1} << (i % 64);
    }
  }

  std::vector<std::vector<std::uint64_t>> levels_;  // [0]: a bit a slot; the last: one word.
  std::uint32_t size_ = 0;
};

}  // namespace mapcap::broker::ledger
