#include "broker/keeper/fuse/mount.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "broker/keeper/fuse/abi.h"
#include "broker/keeper/keeper.h"

namespace mapcap::broker::keeper {
namespace {

/// The kernel queues INIT while mounting, so this is generous.
constexpr int kInitPatienceMs = 5000;

Failure unsupported(std::string sentence) {
  return failure(ErrorCode::unsupported, std::move(sentence));
}

Result<Fd> open_device() {
  Fd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (device.valid()) return device;
  const std::string why = std::strerror(errno);  // NOLINT(concurrency-mt-unsafe): glibc's is thread-safe
  if (errno == ENOENT || errno == ENODEV || errno == ENXIO) {
    return unsupported(
        "/dev/fuse: " + why +
        "; load the fuse module (modprobe fuse), or make the device visible in this container");
  }
  return unsupported("/dev/fuse: " + why + "; mapcapd must run as root and may need access to the device");
}

Result<Fd> mount_device(BorrowedFd device) {
  Fd context(::fsopen("fuse", FSOPEN_CLOEXEC));
  if (!context.valid()) {
    const int failed = errno;
    const std::string why = std::strerror(failed);  // NOLINT(concurrency-mt-unsafe)
    if (failed == EPERM) {
      return unsupported("fsopen(fuse): " + why + "; mounting needs CAP_SYS_ADMIN: run mapcapd as root");
    }
    return unsupported("fsopen(fuse): " + why + "; the kernel has no FUSE (CONFIG_FUSE_FS)");
  }
  const std::string number = std::to_string(device.get());
  const std::array<std::pair<const char*, const char*>, 5> values = {{
      {"source", "mapcap"},
      {"fd", number.c_str()},
      {"rootmode", "40700"},
      {"user_id", "0"},
      {"group_id", "0"},
  }};
  for (const auto& [key, value] : values) {
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0) != 0) {
      return io_error(std::string("fsconfig(fuse, ") + key + ")", errno);
    }
  }
  for (const char* flag : {"allow_other", "default_permissions"}) {
    if (::fsconfig(context.get(), FSCONFIG_SET_FLAG, flag, nullptr, 0) != 0) {
      return io_error(std::string("fsconfig(fuse, ") + flag + ")", errno);
    }
  }
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    const int failed = errno;
    if (failed == EPERM) {
      return unsupported(
          "mounting FUSE is refused; mapcapd needs CAP_SYS_ADMIN in the initial user namespace: run it as "
          "root");
    }
    return io_error("fsconfig(fuse, create)", failed);
  }
  Fd mount(
      ::fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!mount.valid()) return io_error("fsmount(fuse)", errno);
  return mount;
}

Result<void> answer_init(BorrowedFd device, std::chrono::seconds request_timeout) {
  pollfd ready{device.get(), POLLIN, 0};
  int polled = -1;
  do {
    polled = ::poll(&ready, 1, kInitPatienceMs);
  } while (polled < 0 && errno == EINTR);
  alignas(8) std::array<std::byte, fuse::kReadBuffer> buffer;
  const ssize_t got = ::read(device.get(), buffer.data(), buffer.size());
  fuse_in_header header{};
  fuse_init_in init{};
  if (got < 0) return io_error("reading FUSE_INIT", errno);
  const auto bytes = static_cast<std::size_t>(got);
  // Kernels before 5.17 send a shorter fuse_init_in; what is missing stays zero.
  if (bytes < sizeof header + offsetof(fuse_init_in, flags2)) {
    return unsupported(
        "the kernel's FUSE_INIT is shorter than any known; passthrough needs Linux 6.9 or later");
  }
  std::memcpy(&header, buffer.data(), sizeof header);
  std::memcpy(&init, buffer.data() + sizeof header, std::min(sizeof init, bytes - sizeof header));
  if (header.opcode != FUSE_INIT) return unsupported("the kernel's first FUSE request is not INIT");

  const std::uint64_t offered = init.flags | std::uint64_t{init.flags2} << 32U;
  const bool capable = (offered & fuse::kInitExt) != 0 && (offered & fuse::kPassthrough) != 0;
  std::uint64_t chosen = 0;
  if (capable) chosen = fuse::kInitExt | fuse::kPassthrough | (offered & fuse::kRequestTimeout);
  fuse::InitOut reply{};
  reply.major = FUSE_KERNEL_VERSION;
  reply.minor = std::min(init.minor, fuse::kMinor);
  reply.flags = static_cast<std::uint32_t>(chosen);
  reply.flags2 = static_cast<std::uint32_t>(chosen >> 32U);
  // Only releases are asked in the background: many closing holders at once should not queue for one another.
  reply.max_background = 64;
  reply.congestion_threshold = 48;
  reply.max_write = 4096;
  reply.time_gran = 1;
  // Two, the most there is: backings may lie on overlayfs, and nothing may be stacked on top of a grant.
  reply.max_stack_depth = capable ? 2 : 0;
  reply.request_timeout =
      static_cast<std::uint16_t>(std::clamp<std::int64_t>(request_timeout.count(), 1, 65535));
  fuse_out_header out{};
  out.unique = header.unique;
  out.len = sizeof out + sizeof reply;
  std::array<iovec, 2> parts = {{{&out, sizeof out}, {&reply, sizeof reply}}};
  // SAFETY: both parts are plain structs that live through the call.
  if (::writev(device.get(), parts.data(), parts.size()) < 0) return io_error("answering FUSE_INIT", errno);
  if (!capable) {
    return unsupported(
        "this kernel's FUSE has no passthrough; clones need Linux 6.9 or later with CONFIG_FUSE_PASSTHROUGH");
  }
  return ok();
}

/// A kernel may offer passthrough and yet refuse BACKING_OPEN, which needs CAP_SYS_ADMIN in the initial
/// namespace.
Result<void> try_backing(BorrowedFd device) {
  Fd memory(::memfd_create("mapcap-probe", MFD_CLOEXEC));
  if (!memory.valid()) return io_error("memfd_create", errno);
  auto backing = open_backing(device, memory.borrow());
  if (!backing) return unsupported("FUSE passthrough does not work here: " + backing.error().sentence);
  close_backing(device, backing.value());
  return ok();
}

}  // namespace

Result<FuseMount> mount_fuse(std::chrono::seconds request_timeout) {
  MAPCAP_TRY(Fd device, open_device());
  MAPCAP_TRY(Fd mount, mount_device(device.borrow()));
  MAPCAP_TRY_VOID(answer_init(device.borrow(), request_timeout));
  MAPCAP_TRY_VOID(try_backing(device.borrow()));
  return FuseMount{std::move(device), std::move(mount)};
}

Result<Fd> clone_device(BorrowedFd device) {
  MAPCAP_TRY(Fd copy, open_device());
  auto from = static_cast<std::uint32_t>(device.get());
  // SAFETY: the ioctl reads one u32, the number of an open /dev/fuse.
  if (::ioctl(copy.get(), fuse::kClone, &from) != 0) return io_error("FUSE_DEV_IOC_CLONE", errno);
  return copy;
}

Result<std::int32_t> open_backing(BorrowedFd device, BorrowedFd file) {
  fuse::BackingMap map{};
  map.fd = file.get();
  // SAFETY: the ioctl reads one BackingMap.
  const int backing_id = ::ioctl(device.get(), fuse::kBackingOpen, &map);
  if (backing_id > 0) return backing_id;
  const int failed = backing_id == 0 ? EINVAL : errno;
  switch (failed) {
    case EINVAL:
    case ELOOP:
    case EOPNOTSUPP:
      return failure(
          ErrorCode::unsupported,
          "this file cannot back a clone; hugetlbfs, memfd_secret, devices and other clones cannot",
          {{"call", "FUSE_DEV_IOC_BACKING_OPEN"}, {"errno", std::to_string(failed)}});
    case EPERM:
      return failure(
          ErrorCode::unsupported,
          "FUSE_DEV_IOC_BACKING_OPEN is refused; it needs CAP_SYS_ADMIN in the initial user namespace");
    case ENODEV:
    case ENOTCONN:
      return failure(ErrorCode::unavailable, "the FUSE connection has ended; ask again");
    default:
      return io_error("FUSE_DEV_IOC_BACKING_OPEN", failed);
  }
}

void close_backing(BorrowedFd device, std::int32_t backing_id) {
  auto id = static_cast<std::uint32_t>(backing_id);
  // SAFETY: the ioctl reads one u32. It fails only for an id that is not open, which leaves nothing to do.
  ::ioctl(device.get(), fuse::kBackingClose, &id);
}

Result<void> forget_name(BorrowedFd device, std::string_view name) {
  fuse_notify_inval_entry_out entry{};
  entry.parent = FUSE_ROOT_ID;
  entry.namelen = static_cast<std::uint32_t>(name.size());
  fuse_out_header out{};
  out.error = FUSE_NOTIFY_INVAL_ENTRY;
  out.len = static_cast<std::uint32_t>(sizeof out + sizeof entry + name.size() + 1);
  char end = '\0';
  // SAFETY: writev only reads the parts; iovec has no const form.
  std::array<iovec, 4> parts = {
      {{&out, sizeof out}, {&entry, sizeof entry}, {const_cast<char*>(name.data()), name.size()}, {&end, 1}}};
  if (::writev(device.get(), parts.data(), parts.size()) >= 0 || errno == ENOENT) return ok();
  if (errno == ENODEV || errno == ENOTCONN || errno == EPERM)
    return failure(ErrorCode::unavailable, "the FUSE connection has ended; ask again");
  return io_error("taking the name of a clone away", errno);
}

Result<Fd> open_root(BorrowedFd from) {
  Fd root(::openat(from.get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return io_error("opening the root of the keeper's filesystem", errno);
  return root;
}

}  // namespace mapcap::broker::keeper
