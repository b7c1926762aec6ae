#include "broker/pool/memory.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include "base/fd_path.h"
#include "base/machine/memory.h"
#include "base/newer_linux.h"
#include "broker/pool/lease.h"
#include "broker/pool/reservation.h"

namespace mapcap::broker::pool {

namespace {

Result<Fd> new_memfd() {
  // NOEXEC_SEAL keeps the inode from ever being executable; kernels before 6.3 know no such thing, and there
  // the mode without x bits has to do.
  int fd = ::memfd_create("mapcap", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create("mapcap", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return io_error("memfd_create", errno);
  return Fd(fd);
}

/// Binds the inode's future pages to one node: shmem keeps a shared policy per inode, set through any
/// mapping.
Result<void> bind_to_node(BorrowedFd fd, ByteCount size, std::uint32_t node) {
  void* address = ::mmap(nullptr, size.value, PROT_NONE, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) return io_error("mmap for mbind", errno);
  std::array<unsigned long, 16> mask{};
  constexpr std::size_t kBits = sizeof(unsigned long) * CHAR_BIT;
  mask.at(node / kBits) = 1UL << (node % kBits);
  // SAFETY: address and size are the mapping just made; mask outlives the call. maxnode counts one bit more.
  const long bound =
      ::syscall(SYS_mbind, address, size.value, MPOL_BIND, mask.data(), mask.size() * kBits + 1, 0);
  const int failed = errno;
  ::munmap(address, size.value);
  if (bound != 0) return io_error("mbind to NUMA node " + std::to_string(node), failed);
  return ok();
}

/// The append flag (set when the region is attached to a confiner) forbids truncation and punching to
/// everybody.
Result<void> clear_append_flag(BorrowedFd fd) {
  int flags = 0;
  if (::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) != 0 && errno != ENOTTY && errno != EOPNOTSUPP) {
    return io_error("clearing the append flag of a memfd", errno);
  }
  return ok();
}

/// Where it fails, whoever closes last frees them.
void punch_out(BorrowedFd fd, std::uint64_t from, std::uint64_t size) {
  ::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(from),
              static_cast<off_t>(size));
}

/// A description of its own of what `fd` refers to.
Result<Fd> reopen(BorrowedFd fd, int access) {
  const std::string path = fd_path(fd);
  Fd opened(::open(path.c_str(), access | O_CLOEXEC));
  if (!opened.valid()) return io_error("reopening a region's memory", errno);
  return opened;
}

/// Zeroes secret memory, which can be neither punched nor truncated. Pages that nobody has touched stay
/// unallocated.
Result<void> zero(BorrowedFd fd, ByteCount size) {
  constexpr std::uint64_t kStep = 64U << 20U;  // Bounds what mincore says at once.
  std::vector<unsigned char> resident(kStep / kPageSize);
  for (std::uint64_t at = 0; at < size.value; at += kStep) {
    const std::uint64_t step = std::min(kStep, size.value - at);
    // SAFETY: a fresh mapping of bytes of a file that never shrinks; nothing else refers to it.
    void* mapped =
        ::mmap(nullptr, step, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), static_cast<off_t>(at));
    if (mapped == MAP_FAILED) return io_error("mapping a secret region to zero it", errno);
    const bool told = ::mincore(mapped, step, resident.data()) == 0;
    for (std::uint64_t page = 0; page < step / kPageSize; ++page) {
      // SAFETY: within the mapping.
      if (!told || (resident[page] & 1U) != 0)
        std::memset(static_cast<char*>(mapped) + page * kPageSize, 0, kPageSize);
    }
    ::munmap(mapped, step);
  }
  return ok();
}

class MemoryPool final : public Pool {
 public:
  MemoryPool(MemoryOptions options, Fd huge_mount)
      : options_(std::move(options)), huge_mount_(std::move(huge_mount)), reservation_(options_.places) {
    facts_.name = options_.name;
    facts_.backing = "memory";
    facts_.capacity = options_.capacity;
    facts_.granule = {options_.huge ? 2U << 20U : kPageSize};
    facts_.seals = options_.seals;
    facts_.cache_modes = {CacheMode::write_back};
    facts_.cache_verified = options_.cache_verified && !options_.secret;
    facts_.volatile_memory = true;
  }

  [[nodiscard]] const Facts& facts() const override { return facts_; }
  [[nodiscard]] bool quick() const override {
    return !options_.populate && (options_.secret || !reservation_.strict());
  }
  [[nodiscard]] bool shares_description() const override { return options_.secret; }

  Result<ByteCount> capacity_for(const Wanted& wanted) override {
    const ByteCount whole = machine::total_memory();
    const auto* percent = wanted ? std::get_if<std::uint32_t>(&*wanted) : nullptr;
    const ByteCount asked = percent != nullptr
                                ? ByteCount{whole.value / 100 * *percent / kPageSize * kPageSize}
                                : std::get<ByteCount>(wanted.value_or(whole));
    if (asked <= whole) return asked;
    return failure(ErrorCode::invalid, "capacity " + format_bytes(asked) +
                                           " is more than this machine's memory of " + format_bytes(whole));
  }

  Result<Extent> carve(const Carving& carving, const Progress& progress) override {
    if (options_.secret) return carve_secret(carving);
    MAPCAP_TRY(Fd fd, options_.huge ? huge_file() : blank());
    return shape(std::move(fd), carving, progress);
  }

  [[nodiscard]] bool makes_blanks() const override { return !options_.huge && !options_.secret && quick(); }

  /// 0600 and owned by the broker: nobody else can reopen it through /proc.
  Result<Fd> blank() override {
    MAPCAP_TRY(Fd fd, new_memfd());
    if (::fchmod(fd.get(), 0600) != 0) return io_error("fchmod of a new memfd", errno);
    return fd;
  }

  Result<Extent> carve_blank(Fd fd, const Carving& carving) override {
    return shape(std::move(fd), carving, nullptr);
  }

  Result<Extent> reattach(const ledger::RegionRecord& record, Fd held) override {
    if (!held.valid() && record.state != RegionState::live && record.extent != 0) {
      // The broker before had let go of it, to see whether others have.
      MAPCAP_TRY(const bool lives, leases_.lives(record.extent));
      if (lives) return kept(Fd(), record);
    }
    if (!held.valid()) {
      return failure(ErrorCode::lost,
                     "region " + record.name + " was in memory that no process holds any more");
    }
    struct stat status {};
    if (::fstat(held.get(), &status) != 0) return io_error("fstat of a kept memfd", errno);
    const bool cut = record.state != RegionState::live && status.st_size == 0;
    if (static_cast<std::uint64_t>(status.st_size) != record.size.value && !cut) {
      return failure(ErrorCode::lost, "the memory kept for region " + record.name + " has " +
                                          std::to_string(status.st_size) + " bytes, its record says " +
                                          std::to_string(record.size.value));
    }
    return kept(std::move(held), record);
  }

  Result<void> cut(Extent& extent, SealKind seal) override {
    // Without a descriptor the broker before had cut it and let go of it.
    if (options_.secret) return extent.fd().valid() ? zero(extent.fd(), extent.size()) : ok();
    MAPCAP_TRY_VOID(clear_append_flag(extent.fd()));
    const auto size = static_cast<off_t>(extent.size().value);
    if (seal == SealKind::sealed) {
      if (unwritable(extent)) return cut_unwritable(extent);
      // Who still has it and touches what was punched out would need new pages, which may be refused by now.
      if (reservation_.strict() && Reservation::complete(extent.fd(), extent.size()))
        return Reservation::zero_in_place(extent.fd(), extent.size());
      if (::fallocate(extent.fd().get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size) != 0) {
        return io_error("punching out a sealed region", errno);
      }
      return ok();
    }
    Fd writable;
    if (options_.huge) {
      MAPCAP_TRY(writable, reopen(extent.fd(), O_RDWR));
    }
    const BorrowedFd fd = options_.huge ? writable.borrow() : extent.fd();
    if (::ftruncate(fd.get(), 0) != 0) return io_error("truncating a revocable region", errno);
    return ok();
  }

  Result<bool> held(const Extent& extent) override {
    if (options_.secret) return extent.word() == 0 ? Result<bool>(true) : leases_.lives(extent.word());
    if (options_.huge) return open_elsewhere(extent.fd());
    // The broker's and the keeper's descriptors of a memfd do not count: it was created, never opened.
    MAPCAP_TRY(const Fd probe, reopen(extent.fd(), O_RDONLY));
    return open_elsewhere(probe.borrow());
  }

  /// The kernel's own test before it seals a memfd against writing: no writable mapping, no pinned page. It knows
  /// nothing of writable descriptors that may still be mapped, and clones' mappings do not heed the seal, so first
  /// nobody may have any of those. The append flag is no obstacle.
  Result<void> forbid_writing(const Extent& extent) override {
    if (options_.secret || options_.huge) return unpublishable();
    if (unwritable(extent)) return ok();
    MAPCAP_TRY(const Fd probe, reopen(extent.fd(), O_RDONLY));
    MAPCAP_TRY(const bool writers, open_for_writing(probe.borrow()));
    if (writers) {
      return failure(ErrorCode::busy,
                     "somebody of whom mapcapd does not know has its memory open or mapped "
                     "for writing",
                     {{"by", "writers"}});
    }
    if (::fcntl(extent.fd().get(), F_ADD_SEALS, F_SEAL_WRITE) == 0) return ok();
    if (errno == EBUSY) {
      return failure(ErrorCode::busy, "pages of its memory are pinned (io_uring, direct I/O, vmsplice)",
                     {{"by", "pins"}});
    }
    if (errno == EPERM) {
      return failure(
          ErrorCode::unsupported,
          "the region was made by an earlier mapcapd, which closed its seals, or was granted without a "
          "confinement: create it again to publish it");
    }
    return io_error("sealing a memfd against writing", errno);
  }

  [[nodiscard]] bool unwritable(const Extent& extent) const override {
    const int seals = extent.fd().valid() ? ::fcntl(extent.fd().get(), F_GET_SEALS) : -1;
    return seals > 0 && (seals & F_SEAL_WRITE) != 0;
  }

  Result<void> zero_through(const Extent& extent, BorrowedFd grant) override {
    const auto size = static_cast<off_t>(extent.size().value);
    // SAFETY: a fresh mapping of bytes of a file that never shrinks; nothing else refers to it.
    void* mapped = ::mmap(nullptr, extent.size().value, PROT_READ | PROT_WRITE, MAP_SHARED, grant.get(), 0);
    if (mapped == MAP_FAILED) {
      return failure(ErrorCode::unsupported, "this kernel maps no memory for writing that was published",
                     {{"errno", std::to_string(errno)}});
    }
    // Pages that nobody has touched stay unallocated.
    for (off_t from = 0; from < size;) {
      from = ::lseek(extent.fd().get(), from, SEEK_DATA);
      if (from < 0 || from >= size) break;
      off_t to = ::lseek(extent.fd().get(), from, SEEK_HOLE);
      if (to <= from || to > size) to = size;
      // SAFETY: within the mapping.
      std::memset(static_cast<char*>(mapped) + from, 0, static_cast<std::size_t>(to - from));
      from = to;
    }
    ::munmap(mapped, extent.size().value);
    return ok();
  }

  Result<void> free(Extent& extent, const Progress& progress) override {
    // The kernel zeroes pages before anybody gets them. A sealed region's holders may have touched it after
    // the punch: nothing of that reaches anybody else.
    empty(extent, progress);
    return ok();
  }

  bool free_at_once(Extent& extent) override {
    constexpr std::uint64_t kFew = 1U << 20U;  // Some 20 microseconds.
    struct stat status {};
    if (options_.secret || options_.huge || ::fstat(extent.fd().get(), &status) != 0) return false;
    if (static_cast<std::uint64_t>(status.st_blocks) * 512 > kFew) return false;
    const Fd fd = extent.take_fd();
    if (status.st_blocks > 0) {
      (void)clear_append_flag(fd.borrow());
      punch_out(fd.borrow(), 0, static_cast<std::uint64_t>(status.st_size));
    }
    return true;
  }

  void discard(Extent& extent) noexcept override { empty(extent, nullptr); }

 private:
  /// Makes a region of an empty file.
  Result<Extent> shape(Fd fd, const Carving& carving, const Progress& progress) {
    if (::ftruncate(fd.get(), static_cast<off_t>(carving.size.value)) != 0) {
      return io_error("sizing a memfd to " + format_bytes(carving.size), errno);
    }
    if (options_.numa_node) {
      MAPCAP_TRY_VOID(bind_to_node(fd.borrow(), carving.size, *options_.numa_node));
    }
    if (options_.populate || reservation_.strict()) {
      MAPCAP_TRY_VOID(reservation_.allocate(fd.borrow(), carving.size, progress));
    }
    if (options_.populate && options_.huge) {
      MAPCAP_TRY_VOID(reservation_.make_huge(fd.borrow(), carving.size));
    }
    if (!options_.huge) {
      // revocable regions must shrink at revoke; no region may ever grow. Against holders who get the memfd itself
      // their confiner closes the seals (confine/sealed.cpp); else publishing adds another.
      const int seals = F_SEAL_GROW | (carving.seal == SealKind::sealed ? F_SEAL_SHRINK : 0);
      if (::fcntl(fd.get(), F_ADD_SEALS, seals) != 0) return io_error("sealing a memfd", errno);
    }
    // Unlike a memfd, a file of the tmpfs was opened: with the one description that broker and keeper share
    // being read-only, the lease probe can tell it from the holders'.
    if (options_.huge) {
      MAPCAP_TRY(fd, reopen(fd.borrow(), O_RDONLY));
    }
    return Extent(*this, std::move(fd), carving.size, 0);
  }

  [[nodiscard]] Failure unpublishable() const {
    const char* why =
        options_.secret ? "secret memory is granted rw or not at all, so nobody could read what is published"
                        : "huge pages carry no seals, so nobody could tell whether some are still "
                          "pinned for writing (io_uring, direct I/O)";
    return failure(ErrorCode::unsupported,
                   "regions of pool " + options_.name + " cannot be published: " + why);
  }

  /// A seal against writing cannot be taken off, and no hole be punched under it.
  Result<void> cut_unwritable(Extent& extent) {
    MAPCAP_TRY(const bool somebody, held(extent));
    if (!somebody) return ok();
    return failure(
        ErrorCode::unsupported,
        "a sealed region that was published cannot be taken from those who have it on this kernel: it comes "
        "back when they end");
  }

  /// Frees the pages here and now. Closing the last descriptor would too, but that may be the keeper's, for
  /// whom others wait. Where it does not work (secret memory, which knows no holes) closing has to do.
  void empty(Extent& extent, const Progress& progress) const noexcept {
    const Fd fd = extent.take_fd();
    if (!fd.valid() || options_.secret) return;
    (void)clear_append_flag(fd.borrow());
    Fd writable;
    if (options_.huge) {
      Result<Fd> opened = reopen(fd.borrow(), O_RDWR);
      if (opened) writable = std::move(opened.value());
    }
    constexpr std::uint64_t kStep = 256U << 20U;
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return;
    const auto size = static_cast<std::uint64_t>(status.st_size);  // 0 after most cuts.
    const BorrowedFd target = writable.valid() ? writable.borrow() : fd.borrow();
    for (std::uint64_t done = 0; done < size; done += kStep) {
      const std::uint64_t step = std::min(kStep, size - done);
      punch_out(target, done, step);
      if (progress) progress({done + step}, {size});
    }
  }

  Result<Fd> huge_file() {
    Fd fd(::openat(huge_mount_.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!fd.valid()) return io_error("a file on the huge-page tmpfs", errno);
    return fd;
  }

  Result<Extent> carve_secret(const Carving& carving) {
    Fd fd(static_cast<int>(::syscall(SYS_memfd_secret, O_CLOEXEC)));
    if (!fd.valid()) return io_error("memfd_secret", errno);
    if (::fchmod(fd.get(), 0600) != 0) return io_error("fchmod of a secret memfd", errno);
    if (::ftruncate(fd.get(), static_cast<off_t>(carving.size.value)) != 0) {
      return io_error("sizing a secret memfd", errno);
    }
    // A kernel that gives no lease: word 0, and the region counts as held for as long as the machine runs.
    Result<std::uint64_t> leased = mark_with_lease(fd.borrow());
    return Extent(*this, std::move(fd), carving.size, leased ? leased.value() : 0);
  }

  Extent kept(Fd fd, const ledger::RegionRecord& record) {
    Extent extent(*this, std::move(fd), record.size, record.extent);
    extent.keep();
    return extent;
  }

  MemoryOptions options_;
  Fd huge_mount_;
  Facts facts_;
  Leases leases_;
  Reservation reservation_;
};

Result<void> check_options(const MemoryOptions& options) {
  const ByteCount machine = machine::total_memory();
  auto where = [&] { return "pool " + options.name + ": "; };
  if (options.capacity > machine) {
    return failure(ErrorCode::invalid, where() + "capacity " + format_bytes(options.capacity) +
                                           " is more than this machine's memory of " + format_bytes(machine) +
                                           "; lower it in the policy");
  }
  if (options.secret && (options.huge || options.numa_node || options.populate)) {
    return failure(ErrorCode::invalid,
                   where() + "secret memory cannot be huge, bound to a NUMA node or populated ahead");
  }
  if (options.numa_node) {
    const std::string node = "/sys/devices/system/node/node" + std::to_string(*options.numa_node);
    if (*options.numa_node >= 1024 || ::access(node.c_str(), F_OK) != 0) {
      return failure(ErrorCode::invalid, where() + "NUMA node " + std::to_string(*options.numa_node) +
                                             " does not exist (" + node + ")");
    }
  }
  return ok();
}

}  // namespace

Result<std::unique_ptr<Pool>> open_memory(MemoryOptions options) {
  MAPCAP_TRY_VOID(check_options(options));
  Fd huge_mount;
  if (options.huge) {
    MAPCAP_TRY(huge_mount, options.huge_tmpfs ? options.huge_tmpfs() : detached_huge_tmpfs());
    // tmpfs files carry no seals: their size is guarded by the append flag and the confiner alone.
    options.seals = {SealKind::revocable};
  }
  if (options.secret) {
    Fd probe(static_cast<int>(::syscall(SYS_memfd_secret, O_CLOEXEC)));
    if (!probe.valid()) {
      return failure(
          ErrorCode::unsupported,
          "pool " + options.name +
              ": this kernel offers no memfd_secret (boot with secretmem.enable=1, Linux >= 5.14)");
    }
    options.seals = {SealKind::sealed};
  }
  return std::unique_ptr<Pool>(std::make_unique<MemoryPool>(std::move(options), std::move(huge_mount)));
}

}  // namespace mapcap::broker::pool
