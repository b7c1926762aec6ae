#include "client/preload/shared.h"

#include <sys/mman.h>
#include <unistd.h>

namespace mapcap::preload {
namespace {

/// A note is within so many places of where its key belongs; where all are taken, the first gives way.
constexpr std::size_t kNear = 64;

}  // namespace

SharedPositions* SharedPositions::map(int memfd) {
  if (memfd < 0 || ::ftruncate(memfd, sizeof(SharedPositions)) != 0) return nullptr;
  // SAFETY: a new mapping at an address of the kernel's choice; zeros are a valid state of everything in it.
  void* mapped = ::mmap(nullptr, sizeof(SharedPositions), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  return mapped == MAP_FAILED ? nullptr : static_cast<SharedPositions*>(mapped);
}

std::uint32_t SharedPositions::new_cell() {
  for (std::uint32_t tried = 0; tried < kCells; ++tried) {
    const std::uint32_t cell = next_.fetch_add(1) % kCells;
    std::uint32_t free = 0;
    if (!cells_[cell].descriptors.compare_exchange_strong(free, 1)) continue;
    cells_[cell].position = 0;
    return cell;
  }
  return 0;
}

void SharedPositions::note(pid_t process, int fd, std::uint64_t entry) {
  const std::uint64_t key = key_of(process, fd);
  forget(process, fd);
  for (std::size_t i = 0; i <= kNear; ++i) {
    // The last try takes the first place from whoever has it.
    Note& note = notes_[(first_of(key) + i % kNear) % kNotes];
    std::uint64_t free = 0;
    if (i < kNear && !note.key.compare_exchange_strong(free, key)) continue;
    note.key = key;
    note.entry = entry;
    return;
  }
}

void SharedPositions::forget(pid_t process, int fd) {
  const std::uint64_t key = key_of(process, fd);
  for (std::size_t i = 0; i < kNear; ++i) {
    std::uint64_t expected = key;
    notes_[(first_of(key) + i) % kNotes].key.compare_exchange_strong(expected, 0);
  }
}

std::uint64_t SharedPositions::entry_of(pid_t process, int fd) const {
  const std::uint64_t key = key_of(process, fd);
  for (std::size_t i = 0; i < kNear; ++i) {
    const Note& note = notes_[(first_of(key) + i) % kNotes];
    if (note.key == key) return note.entry;
  }
  return 0;
}

}  // namespace mapcap::preload
