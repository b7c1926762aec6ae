#include "broker/keeper/label_board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace mapcap::broker::keeper {

Result<LabelBoard> LabelBoard::create() {
  Fd fd(::memfd_create("mapcap-labels", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return io_error("memfd_create for labels", errno);
  if (::ftruncate(fd.get(), kBytes) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return io_error("sizing the memory for labels", errno);
  }
  return map(std::move(fd));
}

Result<LabelBoard> LabelBoard::map(Fd fd) {
  // SAFETY: a fresh mapping; create() made the file that long and sealed it.
  void* mapped = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) return io_error("mmap of labels", errno);
  // SAFETY: zero bytes, or what the other end left, are valid places: lock-free atomics, which work across processes.
  return LabelBoard(std::move(fd), static_cast<Place*>(mapped));
}

LabelBoard::LabelBoard(LabelBoard&& other) noexcept
    : fd_(std::move(other.fd_)),
      places_(std::exchange(other.places_, nullptr)),
      used_(std::move(other.used_)),
      next_(other.next_),
      unread_(other.unread_) {}

LabelBoard::~LabelBoard() {
  // SAFETY: places_ is the mapping that map() made, and nobody else refers to it.
  if (places_ != nullptr) ::munmap(places_, kBytes);
}

std::optional<std::uint32_t> LabelBoard::reserve(confine::GrantId grant) {
  for (std::uint32_t i = 0; i < kPlaces; ++i) {
    const std::uint32_t at = (next_ + i) % kPlaces;
    Place& place = places_[at];
    if (used_[at] && place.state.load(std::memory_order_acquire) != taken) continue;
    used_[at] = true;
    next_ = at + 1;
    place.state.store(blank, std::memory_order_relaxed);
    place.grant.store(grant, std::memory_order_relaxed);
    return at;
  }
  return std::nullopt;
}

void LabelBoard::write(std::uint32_t at, const Naming& naming) {
  MAPCAP_INVARIANT(at < kPlaces && naming.label.size() <= kMaxLabelBytes, "a label has no place");
  Place& place = places_[at];
  place.size.store(naming.size.value, std::memory_order_relaxed);
  place.holder_uid.store(naming.holder.uid, std::memory_order_relaxed);
  place.holder_gid.store(naming.holder.gid, std::memory_order_relaxed);
  place.label_bytes.store(static_cast<std::uint32_t>(naming.label.size()), std::memory_order_relaxed);
  for (std::size_t i = 0; i < naming.label.size(); i += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, naming.label.data() + i, std::min(sizeof word, naming.label.size() - i));
    place.label[i / sizeof word].store(word, std::memory_order_relaxed);
  }
  place.state.store(named, std::memory_order_release);
  unread_ = true;
}

void LabelBoard::give_back(std::uint32_t at) {
  used_[at] = false;
}

std::optional<Naming> LabelBoard::take(std::uint32_t at, confine::GrantId grant) {
  if (at >= kPlaces) return std::nullopt;
  Place& place = places_[at];
  if (place.state.load(std::memory_order_acquire) != named ||
      place.grant.load(std::memory_order_relaxed) != grant)
    return std::nullopt;
  Naming naming;
  naming.size.value = place.size.load(std::memory_order_relaxed);
  naming.holder.uid = place.holder_uid.load(std::memory_order_relaxed);
  naming.holder.gid = place.holder_gid.load(std::memory_order_relaxed);
  const std::size_t bytes = place.label_bytes.load(std::memory_order_relaxed);
  if (bytes > kMaxLabelBytes) return std::nullopt;
  naming.label.resize(bytes);
  for (std::size_t i = 0; i < bytes; i += sizeof(std::uint64_t)) {
    const std::uint64_t word = place.label[i / sizeof(std::uint64_t)].load(std::memory_order_relaxed);
    std::memcpy(naming.label.data() + i, &word, std::min(sizeof word, bytes - i));
  }
  if (!valid_label(naming.label)) return std::nullopt;
  place.state.store(taken, std::memory_order_release);
  return naming;
}

}  // namespace mapcap::broker::keeper
