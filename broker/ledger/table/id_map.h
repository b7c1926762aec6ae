// A flat hash map from a record's id to its slot: linear probing, backward-shift deletion, at most 3/4 full.
// 12 bytes an entry, so 16 to 32 bytes a record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace mapcap::broker::ledger {

class IdMap {
 public:
  IdMap() { rehash(64); }

  [[nodiscard]] std::size_t size() const { return size_; }
  /// Bytes of memory held.
  [[nodiscard]] std::size_t memory() const {
    return ids_.size() * (sizeof(std::uint64_t) + sizeof(std::uint32_t));
  }

  /// Ids are never 0.
  [[nodiscard]] std::optional<std::uint32_t> find(std::uint64_t id) const {
    const std::size_t at = probe(id);
    if (ids_[at] == 0) return std::nullopt;
    return slots_[at];
  }

  void set(std::uint64_t id, std::uint32_t slot) {
    std::size_t at = probe(id);
    if (ids_[at] == 0) {
      if ((size_ + 1) * 4 > ids_.size() * 3) {
        rehash(ids_.size() * 2);
        at = probe(id);
      }
      ids_[at] = id;
      ++size_;
    }
    slots_[at] = slot;
  }

  void erase(std::uint64_t id) {
    std::size_t hole = probe(id);
    if (ids_[hole] == 0) return;
    --size_;
    // Pull back every later member of the run that would no longer be found behind the hole.
    for (std::size_t next = (hole + 1) & mask_; ids_[next] != 0; next = (next + 1) & mask_) {
      const std::size_t home = hash(ids_[next]) & mask_;
      if (((next - home) & mask_) < ((next - hole) & mask_)) continue;
      ids_[hole] = ids_[next];
      slots_[hole] = slots_[next];
      hole = next;
    }
    ids_[hole] = 0;
  }

  /// visit(id, slot); must not change the map.
  template <typename Visit>
  void for_each(Visit visit) const {
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      if (ids_[i] != 0) visit(ids_[i], slots_[i]);
    }
  }

  void reserve(std::size_t entries) {
    std::size_t size = ids_.size();
    while (entries * 4 > size * 3) size *= 2;
    if (size != ids_.size()) rehash(size);
  }

 private:
  static std::size_t hash(std::uint64_t id) {
    // Ids are handed out in sequence: eight neighbours share a cache line, and the lines are spread.
    return static_cast<std::size_t>(((id >> 3U) * 0x9E3779B97F4A7C15U) >> 20U << 3U | (id & 7U));
  }

  [[nodiscard]] std::size_t probe(std::uint64_t id) const {
    std::size_t at = hash(id) & mask_;
    while (ids_[at] != 0 && ids_[at] != id) at = (at + 1) & mask_;
    return at;
  }

  void rehash(std::size_t size) {
    std::vector<std::uint64_t> ids = std::exchange(ids_, std::vector<std::uint64_t>(size));
    std::vector<std::uint32_t> slots = std::exchange(slots_, std::vector<std::uint32_t>(size));
    mask_ = size - 1;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] == 0) continue;
      const std::size_t at = probe(ids[i]);
      ids_[at] = ids[i];
      slots_[at] = slots[i];
    }
  }

  std::vector<std::uint64_t> ids_;
  std::vector<std::uint32_t> slots_;
  std::size_t mask_ = 0;
  std::size_t size_ = 0;
};

}  // namespace mapcap::broker::ledger
