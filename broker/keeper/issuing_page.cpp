#include "broker/keeper/issuing_page.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace mapcap::broker::keeper {
namespace {

Result<void*> map_page(BorrowedFd fd) {
  // SAFETY: a fresh mapping of one page; both callers made sure that the file is that long and sealed against
  // shrinking.
  void* page = ::mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return io_error("mmap of the issuing page", errno);
  return page;
}

}  // namespace

Result<IssuingPage> IssuingPage::create() {
  Fd fd(::memfd_create("mapcap-issuing", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return io_error("memfd_create for the issuing page", errno);
  if (::ftruncate(fd.get(), kPageSize) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return io_error("sizing the issuing page", errno);
  }
  MAPCAP_TRY(void* page, map_page(fd.borrow()));
  // SAFETY: the page is zeroed, aligned, and large enough (static_assert); zero bytes are a valid Slot.
  Slot* slot = new (page) Slot{};
  slot->magic.store(Slot::kMagic, std::memory_order_release);
  return IssuingPage(std::move(fd), slot);
}

Result<IssuingPage> IssuingPage::map(Fd fd) {
  struct stat status {};
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (::fstat(fd.get(), &status) != 0 || seals < 0 || (seals & F_SEAL_SHRINK) == 0 ||
      status.st_size != static_cast<off_t>(kPageSize)) {
    return failure(ErrorCode::malformed, "the keeper sent something else than its issuing page");
  }
  MAPCAP_TRY(void* page, map_page(fd.borrow()));
  // SAFETY: create() constructed a Slot here, in this process or in another one; all its members are
  // lock-free atomics, which work across processes.
  IssuingPage mapped(std::move(fd), static_cast<Slot*>(page));
  if (mapped.slot_->magic.load(std::memory_order_acquire) != Slot::kMagic) {
    return failure(ErrorCode::malformed, "the keeper's issuing page has another layout");
  }
  return mapped;
}

IssuingPage::IssuingPage(IssuingPage&& other) noexcept
    : fd_(std::move(other.fd_)), slot_(std::exchange(other.slot_, nullptr)) {}

IssuingPage::~IssuingPage() {
  // SAFETY: slot_ is the mapping that map_page made, and nobody else refers to it.
  if (slot_ != nullptr) ::munmap(slot_, kPageSize);
}

void IssuingPage::let_open(const Opening& opening, pid_t tid) {
  MAPCAP_INVARIANT(opening.label.size() <= kMaxLabelBytes, "a label is longer than the issuing page allows");
  slot_->grant.store(opening.grant, std::memory_order_relaxed);
  slot_->region.store(opening.region.value, std::memory_order_relaxed);
  slot_->size.store(opening.size.value, std::memory_order_relaxed);
  slot_->backing_id.store(opening.backing_id, std::memory_order_relaxed);
  slot_->rights.store(static_cast<std::uint32_t>(opening.rights), std::memory_order_relaxed);
  slot_->holder_uid.store(opening.holder.uid, std::memory_order_relaxed);
  slot_->holder_gid.store(opening.holder.gid, std::memory_order_relaxed);
  slot_->published_unix_ns.store(opening.published_unix_ns, std::memory_order_relaxed);
  const std::uint32_t of_region = opening.of_region ? Slot::kOfRegion : 0;
  slot_->place.store(opening.place ? (*opening.place + 1) | of_region : 0, std::memory_order_relaxed);
  slot_->label_bytes.store(static_cast<std::uint32_t>(opening.label.size()), std::memory_order_relaxed);
  for (std::size_t at = 0; at < opening.label.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, opening.label.data() + at, std::min(sizeof word, opening.label.size() - at));
    slot_->label[at / sizeof word].store(word, std::memory_order_relaxed);
  }
  slot_->tid.store(tid, std::memory_order_release);
}

void IssuingPage::clear() {
  slot_->tid.store(0, std::memory_order_release);
}

bool IssuingPage::is_issuer(pid_t tid) const {
  return tid != 0 && slot_->tid.load(std::memory_order_acquire) == tid;
}

std::optional<Opening> IssuingPage::opening() const {
  Opening opening;
  opening.grant = slot_->grant.load(std::memory_order_relaxed);
  opening.region.value = slot_->region.load(std::memory_order_relaxed);
  opening.size.value = slot_->size.load(std::memory_order_relaxed);
  opening.backing_id = slot_->backing_id.load(std::memory_order_relaxed);
  const std::uint32_t rights = slot_->rights.load(std::memory_order_relaxed);
  if (rights > static_cast<std::uint32_t>(Access::read_write)) return std::nullopt;
  opening.rights = static_cast<Access>(rights);
  opening.holder.uid = slot_->holder_uid.load(std::memory_order_relaxed);
  opening.holder.gid = slot_->holder_gid.load(std::memory_order_relaxed);
  opening.published_unix_ns = slot_->published_unix_ns.load(std::memory_order_relaxed);
  if (const std::uint32_t place = slot_->place.load(std::memory_order_relaxed); place != 0) {
    opening.of_region = (place & Slot::kOfRegion) != 0;
    opening.place = (place & ~Slot::kOfRegion) - 1;
  }
  const std::size_t bytes = slot_->label_bytes.load(std::memory_order_relaxed);
  if (bytes > kMaxLabelBytes) return std::nullopt;
  opening.label.resize(bytes);
  for (std::size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = slot_->label[at / sizeof(std::uint64_t)].load(std::memory_order_relaxed);
    std::memcpy(opening.label.data() + at, &word, std::min(sizeof word, bytes - at));
  }
  if (!valid_label(opening.label)) return std::nullopt;
  return opening;
}

}  // namespace mapcap::broker::keeper
