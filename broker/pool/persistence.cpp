#include "broker/pool/persistence.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>

#include "base/newer_linux.h"
#include "base/small_file.h"
#include "base/units.h"
#include "broker/pool/truncate.h"

namespace mapcap::broker::pool {

namespace fs = std::filesystem;

namespace {

// The kernel's fs/xfs/libxfs/xfs_fs.h (struct xfs_fsop_geom, Linux 5.2), which no packaged header has without
// xfsprogs.
struct XfsGeometry {
  std::array<std::uint8_t, 92> before;
  std::uint32_t flags;
  std::array<std::uint8_t, 160> after;
};
static_assert(sizeof(XfsGeometry) == 256);
constexpr unsigned long kXfsGeometry = _IOR('X', 126, XfsGeometry);
constexpr std::uint32_t kXfsReflink = 1U << 20U;

/// A geometry that cannot be read counts as reflink: the careful answer.
bool has_reflink(BorrowedFd fd, std::int64_t filesystem) {
  if (filesystem != XFS_SUPER_MAGIC) return false;
  XfsGeometry geometry{};
  // SAFETY: the kernel fills exactly the size that is encoded in the request.
  if (::ioctl(fd.get(), kXfsGeometry, &geometry) != 0) return true;
  return (geometry.flags & kXfsReflink) != 0;
}

bool maps_synchronously(BorrowedFd fd) {
  // SAFETY: a fresh mapping of one page at an address of the kernel's choice, gone again before anybody uses
  // it.
  void* address =
      ::mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd.get(), 0);
  if (address == MAP_FAILED) return false;
  ::munmap(address, kPageSize);
  return true;
}

bool is_dax(BorrowedFd fd) {
  struct statx status {};
  if (::statx(fd.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status) != 0) return false;
  return (status.stx_attributes & STATX_ATTR_DAX) != 0;
}

bool takes_append_only(BorrowedFd fd) {
  const bool taken = set_append_only(fd, AppendOnly::on).has_value();
  return set_append_only(fd, AppendOnly::off).has_value() && taken;
}

Durability durability_of(const FileFacts& facts, dev_t device) {
  if (facts.filesystem == TMPFS_MAGIC) return {Granularity::none, PersistenceDomain::volatile_memory, false};
  const Durability by_msync{Granularity::page, PersistenceDomain::block_device, facts.dax};
  // Flushing cache lines is enough only while no block of the file can move: not when others may share its
  // blocks, nor when holders could punch holes.
  if (!facts.dax || facts.reflink || !facts.append_only) return by_msync;
  const std::optional<fs::path> sysfs = sysfs_of(DeviceKind::block, device);
  const std::optional<PersistenceDomain> domain = sysfs ? persistence_domain(*sysfs) : std::nullopt;
  if (!domain) return by_msync;
  return {granularity_of(*domain), *domain, true};
}

}  // namespace

std::optional<fs::path> sysfs_of(DeviceKind kind, dev_t device) {
  const std::string link = std::string("/sys/dev/") + (kind == DeviceKind::block ? "block/" : "char/") +
                           std::to_string(major(device)) + ":" + std::to_string(minor(device));
  std::error_code failed;
  fs::path path = fs::canonical(link, failed);
  if (failed) return std::nullopt;
  return path;
}

std::optional<PersistenceDomain> persistence_domain(const fs::path& device) {
  std::error_code failed;
  for (fs::path at = device; at.has_relative_path(); at = at.parent_path()) {
    if (!fs::exists(at / "persistence_domain", failed)) continue;
    const std::string domain = first_line_of(at / "persistence_domain");
    if (domain == "cpu_cache") return PersistenceDomain::cpu_cache;
    if (domain == "memory_controller") return PersistenceDomain::memory_controller;
    return std::nullopt;
  }
  // Device mapper: what lies below.
  std::optional<PersistenceDomain> weakest;
  for (const fs::directory_entry& below : fs::directory_iterator(device / "slaves", failed)) {
    const fs::path path = fs::canonical(below.path(), failed);
    const std::optional<PersistenceDomain> domain = failed ? std::nullopt : persistence_domain(path);
    if (!domain) return std::nullopt;
    if (!weakest || *domain < *weakest) weakest = domain;
  }
  return weakest;
}

Granularity granularity_of(PersistenceDomain domain) {
  switch (domain) {
    case PersistenceDomain::cpu_cache:
      return Granularity::byte;
    case PersistenceDomain::memory_controller:
      return Granularity::cache_line;
    case PersistenceDomain::block_device:
      return Granularity::page;
    case PersistenceDomain::volatile_memory:
      break;
  }
  return Granularity::none;
}

Result<FileFacts> examine_directory(BorrowedFd directory) {
  const Fd file(::openat(directory.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file.valid()) return io_error("making a file in it", errno);
  if (::ftruncate(file.get(), static_cast<off_t>(kPageSize)) != 0) {
    return io_error("sizing a file in it", errno);
  }
  FileFacts facts;
  struct statfs filesystem {};
  struct stat status {};
  if (::fstatfs(file.get(), &filesystem) != 0) return io_error("statfs of a file in it", errno);
  if (::fstat(file.get(), &status) != 0) return io_error("fstat of a file in it", errno);
  facts.filesystem = filesystem.f_type;
  facts.dax = is_dax(file.borrow()) && maps_synchronously(file.borrow());
  facts.reflink = has_reflink(file.borrow(), facts.filesystem);
  facts.append_only = takes_append_only(file.borrow());
  facts.durability = durability_of(facts, status.st_dev);
  return facts;
}

}  // namespace mapcap::broker::pool
