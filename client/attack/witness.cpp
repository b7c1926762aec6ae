#include "client/attack/witness.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

constexpr std::size_t kHeadLength = std::size_t{64} * 1024;

std::byte pattern_at(std::size_t index) {
  // Never 0 or 0xff, so that zeros read from elsewhere, and complemented zeros, are not taken for the
  // region's bytes.
  return static_cast<std::byte>(1 + (index * 2654435761U >> 11U) % 254);
}

}  // namespace

Witness::Witness(const Target& target) : target_(target) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::uint64_t head = std::min<std::uint64_t>(target.size, kHeadLength);
  transfer_length_ = kHeadLength;
  // SAFETY: anonymous memory, owned by this object until its end.
  void* transfer = mmap(nullptr, transfer_length_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (transfer != MAP_FAILED) transfer_ = static_cast<std::byte*>(transfer);
  if (head > 0) watch(head_, 0, static_cast<std::size_t>(head));
  if (target.size > kHeadLength) {
    const std::uint64_t last = (target.size - 1) / page * page;
    watch(tail_, last, static_cast<std::size_t>(target.size - last));
  }
  status_flags_ = fcntl(target_.fd, F_GETFL);
  remember_attributes();
}

Witness::~Witness() {
  for (const Window* window : mapped_windows()) {
    if (target_.rights == Access::read_write) write_back(*window, window->original);
    unmap(*window);
  }
  if (whole_ != nullptr) munmap(whole_, target_.size);
  if (transfer_ != nullptr) munmap(transfer_, transfer_length_);
}

void Witness::watch(Window& window, std::uint64_t offset, std::size_t length) {
  const bool writable = target_.rights == Access::read_write;
  if (transfer_ == nullptr) return;
  window.address = map(offset, length);
  if (window.address == nullptr) {
    // Device-DAX is mapped in multiples of its alignment only.
    if (whole_ == nullptr) whole_ = map(0, target_.size);
    if (whole_ == nullptr) return;
    window.address = whole_ + offset;
    window.within_whole = true;
  }
  window.original.resize(length);
  if (!copy_out(window)) {
    unmap(window);
    window = {};
    return;
  }
  window.original = window.now;
  window.expected = window.original;
  if (!writable) return;
  for (std::size_t i = 0; i < length; ++i) window.expected[i] = pattern_at(offset + i);
  write_back(window, window.expected);
}

std::byte* Witness::map(std::uint64_t offset, std::size_t length) const {
  const bool writable = target_.rights == Access::read_write;
  // SAFETY: a fresh mapping of the borrowed fd; it is touched only through copy_out and write_back, which
  // survive a region that shrinks under it.
  void* address = mmap(nullptr, length, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, target_.fd,
                       static_cast<off_t>(offset));
  return address == MAP_FAILED ? nullptr : static_cast<std::byte*>(address);
}

void Witness::unmap(const Window& window) const {
  if (!window.within_whole) munmap(window.address, window.original.size());
}

bool Witness::copy_out(const std::vector<Window*>& windows) {
  return std::all_of(windows.begin(), windows.end(), [this](Window* window) { return copy_out(*window); });
}

bool Witness::copy_out(Window& window) {
  const std::size_t length = window.original.size();
  window.now.resize(length);
  // Copying by system call fails where the mapping would fault, and so costs no child in the usual case.
  // Device memory cannot be copied so: then a child touches it.
  const iovec from{window.address, length};
  const iovec to{window.now.data(), length};
  if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) == static_cast<ssize_t>(length)) return true;
  if (!survives([&] { std::memcpy(transfer_, window.address, length); })) return false;
  std::memcpy(window.now.data(), transfer_, length);
  return true;
}

std::vector<Witness::Window*> Witness::mapped_windows() {
  std::vector<Window*> windows;
  for (Window* window : {&head_, &tail_}) {
    if (window->address != nullptr) windows.push_back(window);
  }
  return windows;
}

void Witness::write_back(const Window& window, std::span<const std::byte> bytes) {
  // A failure shows in the next observation.
  (void)survives([&] { std::memcpy(window.address, bytes.data(), bytes.size()); });
}

void Witness::remember_attributes() {
  if (fstat(target_.fd, &attributes_) != 0) attributes_ = {};
  seals_ = fcntl(target_.fd, F_GET_SEALS);
}

Witness::Change Witness::observe() {
  Change change;
  const std::vector<Window*> windows = mapped_windows();
  if (copy_out(windows)) {
    for (const Window* window : windows) change.contents |= window->now != window->expected;
  } else {
    change.other += "mapping faults; ";
  }
  struct stat now {};
  if (fstat(target_.fd, &now) == 0) {
    const auto differs = [&](const char* what, auto before, auto after) {
      if (before == after) return;
      change.other +=
          std::string(what) + " " + std::to_string(before) + " -> " + std::to_string(after) + "; ";
    };
    differs("size", attributes_.st_size, now.st_size);
    differs("mode", attributes_.st_mode, now.st_mode);
    differs("uid", attributes_.st_uid, now.st_uid);
    differs("gid", attributes_.st_gid, now.st_gid);
    differs("links", attributes_.st_nlink, now.st_nlink);
    // Touching a mapping allocates, which is legitimate; only losing blocks is an attack.
    if (now.st_blocks < attributes_.st_blocks) differs("blocks", attributes_.st_blocks, now.st_blocks);
  } else if (attributes_.st_ino != 0) {
    change.other += "fstat fails; ";
  }
  differs_in_seals(change.other);
  if (!change.other.empty()) change.other.resize(change.other.size() - 2);
  return change;
}

void Witness::differs_in_seals(std::string& text) const {
  const int now = fcntl(target_.fd, F_GET_SEALS);
  if (now != seals_) text += "seals " + std::to_string(seals_) + " -> " + std::to_string(now) + "; ";
}

void Witness::restore(const Change& change) {
  (void)lseek(target_.fd, 0, SEEK_SET);
  if (fcntl(target_.fd, F_GETFL) != status_flags_) (void)fcntl(target_.fd, F_SETFL, status_flags_);
  (void)fcntl(target_.fd, F_SETOWN, 0);
  (void)fcntl(target_.fd, F_SETSIG, 0);
  (void)fcntl(target_.fd, F_SETLEASE, F_UNLCK);
  (void)flock(target_.fd, LOCK_UN);
  if (!change.any()) {
    remember_attributes();
    return;
  }
  (void)ftruncate(target_.fd, attributes_.st_size);
  (void)fchmod(target_.fd, attributes_.st_mode & 07777U);
  (void)fchown(target_.fd, attributes_.st_uid, attributes_.st_gid);
  const std::vector<Window*> windows = mapped_windows();
  if (target_.rights == Access::read_write) {
    for (const Window* window : windows) write_back(*window, window->expected);
  } else if (copy_out(windows)) {
    for (Window* window : windows) window->expected = window->now;
  }
  remember_attributes();
}

}  // namespace mapcap::attack
