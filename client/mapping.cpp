#include "mapcap/mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "client/raise.h"
#include "client/stores.h"
#include "mapcap/error.h"

namespace mapcap {
namespace {

// MAP_SYNC where the broker says that it works: it keeps the block mapping durable even if somebody changes
// it. Where it turns out not to work, flushing still suffices, because every block was written and synced
// before.
void* map(int fd, std::size_t size, Access rights, Durability& durability) {
  const int protection = rights == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
  if (durability.map_sync) {
    // SAFETY: a new mapping at an address of the kernel's choice.
    void* address = ::mmap(nullptr, size, protection, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
    if (address != MAP_FAILED || errno != EOPNOTSUPP) return address;
    durability.map_sync = false;
  }
  // SAFETY: a new mapping at an address of the kernel's choice.
  return ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
}

/// Names the limit where the kernel's word for it is of no help.
Failure mmap_error(const std::string& name, int failed) {
  Failure error = io_error("mmap of " + name, failed);
  if (failed == EAGAIN) {
    error.sentence += ": secret memory is locked memory; raise this process's RLIMIT_MEMLOCK (ulimit -l)";
    error.details.push_back({"limit_name", "RLIMIT_MEMLOCK"});
  }
  if (failed == ENOMEM) {
    error.sentence += ": this process has no address space or no mapping left (RLIMIT_AS, vm.max_map_count)";
  }
  return error;
}

}  // namespace

Mapping::Mapping(const Grant& grant) : Mapping(grant, grant.rights()) {}

Mapping::Mapping(const Grant& grant, Access rights)
    : size_(grant.size()),
      rights_(rights),
      cache_(grant.info().cache.effective),
      durability_(grant.info().durability) {
  if (rights == Access::read_write && grant.rights() == Access::read_only) {
    throw Error(ErrorCode::denied, "the grant of " + grant.info().name +
                                       " is read-only; open the region with rw if its mode allows it");
  }
  void* address = map(grant.fd(), size_, rights, durability_);
  if (address == MAP_FAILED) raise(mmap_error(grant.info().name, errno));
  address_ = static_cast<std::byte*>(address);
  try {
    stores_ = std::make_unique<Stores>(
        Stores::Memory{address_, size_, durability_, cache_, grant.info().cache.mechanism});
  } catch (...) {
    ::munmap(address_, size_);
    throw;
  }
}

Mapping::Mapping(Mapping&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      rights_(other.rights_),
      cache_(other.cache_),
      durability_(other.durability_),
      stores_(std::move(other.stores_)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  Mapping taken(std::move(other));
  std::swap(address_, taken.address_);
  std::swap(size_, taken.size_);
  std::swap(rights_, taken.rights_);
  std::swap(cache_, taken.cache_);
  std::swap(durability_, taken.durability_);
  std::swap(stores_, taken.stores_);
  return *this;
}

Mapping::~Mapping() {
  if (address_ != nullptr) ::munmap(address_, size_);
}

std::span<std::byte> Mapping::writable() {
  if (rights_ != Access::read_write)
    throw Error(ErrorCode::denied, "the mapping is read-only; open the region with rw if its mode allows it");
  return {address_, size_};
}

std::byte* Mapping::checked(std::size_t offset, std::size_t length, std::size_t alignment) const {
  if (offset > size_ || length > size_ - offset) {
    throw Error(ErrorCode::invalid, "bytes " + std::to_string(offset) + " to " +
                                        std::to_string(offset + length) + " are not within the mapping of " +
                                        std::to_string(size_) + " bytes");
  }
  if (offset % alignment != 0) {
    throw Error(ErrorCode::invalid, "offset " + std::to_string(offset) + " is not aligned to " +
                                        std::to_string(alignment) + " bytes");
  }
  return address_ + offset;
}

Granularity Mapping::persist(std::size_t offset, std::size_t length) {
  const Granularity granularity = flush(offset, length);
  drain();
  return granularity;
}

Granularity Mapping::flush(std::size_t offset, std::size_t length) {
  std::byte* begin = checked(offset, length, 1);
  if (stores_ != nullptr) stores_->flush(begin, length);
  return durability_.granularity;
}

void Mapping::drain() {
  if (stores_ != nullptr) stores_->drain();
}

Granularity Mapping::memcpy_persist(std::size_t offset, std::span<const std::byte> source) {
  static_cast<void>(writable());
  std::byte* begin = checked(offset, source.size(), 1);
  // A mapping that was moved from has no bytes, so there is nothing to copy either.
  if (stores_ != nullptr) stores_->copy(begin, source.data(), source.size());
  return durability_.granularity;
}

Granularity Mapping::memset_persist(std::size_t offset, std::byte value, std::size_t length) {
  static_cast<void>(writable());
  std::byte* begin = checked(offset, length, 1);
  if (stores_ != nullptr) stores_->set(begin, value, length);
  return durability_.granularity;
}

}  // namespace mapcap
