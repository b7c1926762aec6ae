// Positions of open files, in memory that parents and children share; and which descriptor of which process
// has which.
//
// What a process leaves behind when it is killed, or when an exec closes descriptors, stays in use until the
// last of the family ends: there are a million cells, and 64k notes, of which the oldest make room.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace mapcap::preload {

class SharedPositions {
 public:
  static constexpr std::uint32_t kCells = 1U << 20U;
  static constexpr std::size_t kNotes = 1U << 16U;

  /// Of a memfd of size 0 or of this size, which it grows to; null where that fails.
  static SharedPositions* map(int memfd);

  /// A cell at position 0 that one descriptor has. Where all are in use, one that is shared by chance.
  std::uint32_t new_cell();
  void keep(std::uint32_t cell) { cells_[cell].descriptors.fetch_add(1); }
  void drop(std::uint32_t cell) { cells_[cell].descriptors.fetch_sub(1); }
  std::atomic<std::uint64_t>* cell(std::uint32_t cell) { return &cells_[cell].position; }

  /// What descriptor `fd` of a process is, for whoever that process executes.
  void note(pid_t process, int fd, std::uint64_t entry);
  void forget(pid_t process, int fd);
  /// 0 where nothing was noted.
  [[nodiscard]] std::uint64_t entry_of(pid_t process, int fd) const;

 private:
  struct Cell {
    std::atomic<std::uint64_t> position;
    std::atomic<std::uint32_t> descriptors;
  };
  struct Note {
    std::atomic<std::uint64_t> key;  ///< 0: free.
    std::atomic<std::uint64_t> entry;
  };
  static std::uint64_t key_of(pid_t process, int fd) {
    return (static_cast<std::uint64_t>(process) << 32U) | static_cast<std::uint32_t>(fd);
  }
  static std::size_t first_of(std::uint64_t key) { return (key * 0x9E3779B97F4A7C15ULL) >> 48U; }

  std::atomic<std::uint32_t> next_;
  std::array<Cell, kCells> cells_;
  std::array<Note, kNotes> notes_;
};

}  // namespace mapcap::preload
