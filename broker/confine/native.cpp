#include "broker/confine/native.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>

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
bool is_pci_resource(schema::BorrowedFd fd) {
  const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
  std::array<char, 512> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  if (length <= 0) return false;
  const std::string_view path(target.data(), static_cast<std::size_t>(length));
  return path.starts_with("/sys/devices/") && path.substr(path.rfind('/') + 1).starts_with("resource");
}

schema::Result<Kind> kind_of(schema::BorrowedFd fd) {
  struct stat status {};
  struct statfs filesystem {};
  if (::fstat(fd.get(), &status) != 0) return schema::io_error("fstat of a region's memory", errno);
  if (S_ISCHR(status.st_mode)) return is_dax_device(status.st_rdev) ? Kind::dax_device : Kind::other;
  if (::fstatfs(fd.get(), &filesystem) != 0) return schema::io_error("fstatfs of a region's memory", errno);
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

class NativeConfiner final : public UntrackedConfiner {
 public:
  [[nodiscard]] schema::Confinement kind() const override { return schema::Confinement::native; }

 protected:
  schema::Result<void> admit(schema::BorrowedFd fd, Backing) override {
    MAPCAP_TRY(const Kind found, kind_of(fd));
    if (found == Kind::other) {
      return schema::error(
          schema::ErrorCode::unsupported,
          "only devdax, PCI BARs, dma-bufs and memfd_secret are mmap-only by themselves; use "
          "another confinement for this pool");
    }
    return schema::ok();
  }

  schema::Result<schema::UniqueFd> open(schema::BorrowedFd fd, schema::Access rights) override {
    MAPCAP_TRY(const Kind found, kind_of(fd));
    switch (found) {
      case Kind::dax_device:
      case Kind::pci_bar:
        // Nodes of root with mode 0600: holders cannot open them again.
        return reopen(fd, rights);
      case Kind::dma_buffer:
      case Kind::secret_memory:
        break;
      default:
        return schema::error(schema::ErrorCode::unsupported, "this memory is no longer mmap-only by itself");
    }
    // Neither can be opened again, nor weakened. Sharing one description is harmless: there is no offset to
    // share, since neither can be read, written or seeked to any effect.
    if (rights == schema::Access::read_only) {
      return schema::error(
          schema::ErrorCode::unsupported,
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
