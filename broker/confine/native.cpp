#include "broker/confine/native.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/fd_path.h"
#include "broker/confine/untracked.h"

namespace mapcap::broker::confine {
namespace {

// linux/magic.h of 6.1 has both; secretmem's was moved there later under this value.
constexpr unsigned long kSecretMemory = 0x5345434d;

enum class Kind : std::uint8_t { dax_device, pci_bar, dma_buffer, secret_memory, other };

/// "dax" for /dev/daxX.Y: which character devices are mmap-only is known by their subsystem.
bool is_dax_device(dev_t device) {
  const std::string link =
      "/sys/dev/char/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + "/subsystem";
  std::array<char, 256> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  if (length <= 0) return false;
  const std::string_view path(target.data(), static_cast<std::size_t>(length));
  return path.substr(path.rfind('/') + 1) == "dax";
}

/// /sys/devices/pci.../resource0 or resource0_wc.
bool is_pci_resource(BorrowedFd fd) {
  const std::string link = fd_path(fd);
  std::array<char, 512> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  if (length <= 0) return false;
  const std::string_view path(target.data(), static_cast<std::size_t>(length));
  return path.starts_with("/sys/devices/") && path.substr(path.rfind('/') + 1).starts_with("resource");
}

Result<Kind> kind_of(BorrowedFd fd) {
  struct stat status {};
  struct statfs filesystem {};
  if (::fstat(fd.get(), &status) != 0) return io_error("fstat of a region's memory", errno);
  if (S_ISCHR(status.st_mode)) return is_dax_device(status.st_rdev) ? Kind::dax_device : Kind::other;
  if (::fstatfs(fd.get(), &filesystem) != 0) return io_error("fstatfs of a region's memory", errno);
  switch (static_cast<unsigned long>(filesystem.f_type)) {
    case SYSFS_MAGIC:
      return is_pci_resource(fd) ? Kind::pci_bar : Kind::other;
    case DMA_BUF_MAGIC:
      return Kind::dma_buffer;
    case kSecretMemory:
      return Kind::secret_memory;
    default:
      return Kind::other;
  }
}

/// Memory that never had a path.
Result<bool> is_anonymous(BorrowedFd fd) {
  struct statfs filesystem {};
  if (::fstatfs(fd.get(), &filesystem) != 0) return io_error("fstatfs of a region's memory", errno);
  const auto type = static_cast<unsigned long>(filesystem.f_type);
  return type == DMA_BUF_MAGIC || type == kSecretMemory;
}

/// The path of an open file in the broker's own mount namespace.
Result<std::filesystem::path> path_of(BorrowedFd fd) {
  std::error_code failed;
  std::filesystem::path path = std::filesystem::read_symlink(fd_path(fd), failed);
  if (failed) return io_error("reading the path of a device", failed.value());
  return path;
}

bool same_file(BorrowedFd a, BorrowedFd b) {
  struct stat one {};
  struct stat other {};
  return ::fstat(a.get(), &one) == 0 && ::fstat(b.get(), &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

/// The same node through a mount of its own that runs nothing. No mapping of what is opened through it is
/// ever executable (path_noexec() in the kernel's mm/mmap.c), however the policy's path is mounted. The mount
/// is of the directory, and dissolved before anybody gets a descriptor: a holder with a user namespace can
/// then neither attach nor reconfigure it. Linux 5.12; needs CAP_SYS_ADMIN.
Result<Fd> on_noexec_mount(BorrowedFd fd) {
  MAPCAP_TRY(const std::filesystem::path path, path_of(fd));
  const std::string directory = path.parent_path().string();
  const Fd mount(
      ::open_tree(AT_FDCWD, directory.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  if (!mount.valid()) return io_error("open_tree of " + directory, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return io_error("fstat of " + path.string(), errno);
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID;
  // A device opens for writing on a read-only mount too, while its node's attributes stay as they are:
  // Linux 6.1 lets anybody set security.* where BPF is among its security modules. A BAR is a regular file,
  // which would not open.
  if (S_ISCHR(status.st_mode)) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  if (::mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    return io_error("mount_setattr(noexec) of " + directory, errno);
  }
  Fd node(::openat(mount.get(), path.filename().c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!node.valid()) return io_error("opening " + path.string(), errno);
  if (!same_file(node.borrow(), fd)) {
    return failure(ErrorCode::io, path.string() + " is no longer the device that it was");
  }
  return node;
}

class NativeConfiner final : public UntrackedConfiner {
 public:
  [[nodiscard]] Confinement kind() const override { return Confinement::native; }

 protected:
  Result<void> admit(BorrowedFd fd, Backing) override {
    MAPCAP_TRY(const Kind found, kind_of(fd));
    if (found == Kind::other) {
      return failure(ErrorCode::unsupported,
                     "only devdax, PCI BARs, dma-bufs and memfd_secret are mmap-only by themselves; use "
                     "another confinement for this pool");
    }
    return ok();
  }

  Result<Fd> hold(BorrowedFd fd) override {
    MAPCAP_TRY(const bool anonymous, is_anonymous(fd));
    return anonymous ? duplicate(fd) : on_noexec_mount(fd);
  }

  Result<Fd> open(BorrowedFd fd, Access rights) override {
    MAPCAP_TRY(const bool anonymous, is_anonymous(fd));
    // Nodes of root with mode 0600: holders cannot open them again.
    if (!anonymous) return reopen(fd, rights);
    // Neither dma-bufs nor secret memory can be opened again, nor weakened. Sharing one description is
    // harmless: there is no offset to share, since neither can be read, written or seeked to any effect.
    if (rights == Access::read_only) {
      return failure(ErrorCode::unsupported,
                     "memfd_secret and dma-bufs can only be granted rw; ask for rw, or use another pool");
    }
    return duplicate(fd);
  }
};

}  // namespace

std::unique_ptr<Confiner> make_native() {
  return std::make_unique<NativeConfiner>();
}

}  // namespace mapcap::broker::confine
