#include "mapcap/grant.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>

#include "base/units.h"
#include "client/raise.h"
#include "mapcap/error.h"
#include "mapcap/region.h"
#include "mapcap/words.h"

namespace mapcap {
namespace {

// Not in linux-libc-dev 6.1: include/uapi/linux/magic.h since 5.14 (SECRETMEM_MAGIC) has it only in the
// kernel.
constexpr long kSecretmem = 0x5345434d;
constexpr long kFuse = 0x65735546;
// Long enough for any name; what is longer is no attribute of ours.
constexpr std::size_t kMostAttribute = 512;

[[noreturn]] void raise_errno(std::string_view what, int error) {
  raise(io_error(what, error));
}

// Absent: the file has no such attribute, or nobody is left to ask (a clone whose keeper has died still
// maps).
std::optional<std::string> attribute(int fd, const char* key) {
  std::array<char, kMostAttribute> text{};
  const std::string name = std::string("system.mapcap.") + key;
  const ssize_t length = ::fgetxattr(fd, name.c_str(), text.data(), text.size());
  if (length >= 0) return std::string(text.data(), static_cast<std::size_t>(length));
  if (errno == EBADF) raise_errno("fgetxattr", errno);
  return std::nullopt;
}

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> found(1);
  for (char c : text) {
    if (c == ' ' || c == ',' || c == ';' || c == '/') {
      if (!found.back().empty()) found.emplace_back();
    } else {
      found.back().push_back(c);
    }
  }
  return found;
}

// The enumerator whose name is among the words.
template <typename Enum>
std::optional<Enum> find_word(const std::vector<std::string>& among,
                              std::initializer_list<Enum> enumerators) {
  for (const std::string& word : among) {
    for (Enum enumerator : enumerators) {
      if (word == to_string(enumerator)) return enumerator;
    }
  }
  return std::nullopt;
}

template <typename Enum>
Enum required(const char* key, const std::optional<std::string>& text,
              std::initializer_list<Enum> enumerators) {
  if (text) {
    if (auto found = find_word(words(*text), enumerators)) return *found;
  }
  throw Error(ErrorCode::malformed, std::string("the grant's attribute system.mapcap.") + key +
                                        (text ? " has an unknown value" : " is missing") +
                                        "; the broker is newer than this library");
}

constexpr std::initializer_list<CacheMode> kCacheModes = {CacheMode::write_back, CacheMode::write_through,
                                                          CacheMode::write_combining, CacheMode::uncached};

Durability parse_durability(const std::optional<std::string>& text) {
  Durability durability;
  durability.granularity = required(
      "durability", text, {Granularity::none, Granularity::page, Granularity::cache_line, Granularity::byte});
  const auto said = words(*text);
  durability.domain = find_word(said, {PersistenceDomain::block_device, PersistenceDomain::memory_controller,
                                       PersistenceDomain::cpu_cache})
                          .value_or(PersistenceDomain::volatile_memory);
  for (const std::string& word : said) durability.map_sync |= word == "map-sync";
  return durability;
}

// "no", or nanoseconds since 1970. Keepers of before there was publishing have no such attribute.
std::optional<std::chrono::nanoseconds> parse_published(const std::optional<std::string>& text) {
  if (!text || *text == "no") return std::nullopt;
  std::int64_t since = 0;
  const char* const end = text->data() + text->size();
  const auto [stop, failed] = std::from_chars(text->data(), end, since);
  if (failed != std::errc{} || stop != end)
    throw Error(ErrorCode::malformed,
                "the grant's attribute system.mapcap.published is neither \"no\" nor a time");
  return std::chrono::nanoseconds(since);
}

std::uint64_t device_size(dev_t device) {
  std::ifstream file("/sys/dev/char/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)) +
                     "/size");
  std::uint64_t size = 0;
  file >> size;
  return size;
}

bool maps_synchronously(int fd, Access rights) {
  // SAFETY: a new mapping at an address of the kernel's choice, touched by nobody and removed at once.
  void* probe = ::mmap(nullptr, kPageSize, rights == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ,
                       MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
  if (probe == MAP_FAILED) return false;
  ::munmap(probe, kPageSize);
  return true;
}

// A file that cannot even be read is confined by an LSM.
Confinement confinement_of_file(int fd) {
  std::byte byte{};
  return ::pread(fd, &byte, 1, 0) < 0 && errno == EPERM ? Confinement::lsm : Confinement::sealed;
}

// What can be told from a file that does not describe itself: a sealed memfd, a device, a DAX file.
void inspect(int fd, Access rights, RegionInfo& info) {
  struct statx facts {};
  // A clone's cached size will do: nobody may be left to ask for a newer one, and it never changes.
  if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE | STATX_TYPE, &facts) != 0)
    raise_errno("statx of an adopted descriptor", errno);
  if (S_ISCHR(facts.stx_mode)) {
    info.size = device_size(makedev(facts.stx_rdev_major, facts.stx_rdev_minor));
    info.confinement = Confinement::native;
    // Flushing lines is needed on devdax, or harmless where the cache survives a power cut too.
    info.durability = {Granularity::cache_line, PersistenceDomain::memory_controller, true};
    return;
  }
  info.size = facts.stx_size;
  struct statfs filesystem {};
  if (::fstatfs(fd, &filesystem) != 0) raise_errno("fstatfs of an adopted descriptor", errno);
  switch (static_cast<long>(filesystem.f_type)) {
    case kFuse:
      info.confinement = Confinement::clone;
      return;
    case kSecretmem:
      info.confinement = Confinement::native;
      return;
    case TMPFS_MAGIC:
    case HUGETLBFS_MAGIC:
      info.confinement = confinement_of_file(fd);
      return;
    case SYSFS_MAGIC: {  // a PCI BAR: resourceN or resourceN_wc
      info.confinement = Confinement::native;
      std::array<char, 256> path{};
      const std::string link = "/proc/self/fd/" + std::to_string(fd);
      const ssize_t length = ::readlink(link.c_str(), path.data(), path.size());
      const bool combining =
          length > 3 && std::string_view(path.data(), static_cast<std::size_t>(length)).ends_with("_wc");
      info.cache.requested = info.cache.effective =
          combining ? CacheMode::write_combining : CacheMode::uncached;
      return;
    }
    default:
      info.confinement = confinement_of_file(fd);
      info.durability = maps_synchronously(fd, rights)
                            ? Durability{Granularity::cache_line, PersistenceDomain::memory_controller, true}
                            : Durability{Granularity::page, PersistenceDomain::block_device, false};
  }
}

}  // namespace

std::optional<Description> describe(int fd) {
  auto name = attribute(fd, "name");
  if (!name) return std::nullopt;
  Description told;
  told.name = std::move(*name);
  told.rights = required("rights", attribute(fd, "rights"), {Access::read_only, Access::read_write});
  told.cache_requested = required("cache.requested", attribute(fd, "cache.requested"), kCacheModes);
  const auto effective = attribute(fd, "cache.effective");
  told.cache_effective = required("cache.effective", effective, kCacheModes);
  told.cache_mechanism =
      find_word(words(*effective), {CacheMechanism::store_discipline, CacheMechanism::platform})
          .value_or(CacheMechanism::page_attribute);
  told.durability = parse_durability(attribute(fd, "durability"));
  told.confinement =
      required("confinement", attribute(fd, "confinement"),
               {Confinement::sealed, Confinement::clone, Confinement::native, Confinement::lsm});
  told.published_unix = parse_published(attribute(fd, "published"));
  const auto size = attribute(fd, "size");
  char* end = nullptr;
  if (size) told.size = std::strtoull(size->c_str(), &end, 10);
  if (!size || end == size->c_str() || *end != '\0' || told.size == 0)
    throw Error(ErrorCode::malformed, "the grant's attribute system.mapcap.size is no number of bytes");
  return told;
}

Grant::Grant(Fd fd, Access rights, RegionInfo info)
    : fd_(std::move(fd)), rights_(rights), info_(std::move(info)) {}

Grant Grant::adopt(Fd fd) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0) raise_errno("fcntl(F_GETFL) of an adopted descriptor", errno);
  const int mode = flags & O_ACCMODE;
  if ((flags & O_PATH) != 0 || mode == O_WRONLY) {
    throw Error(ErrorCode::invalid, "descriptor " + std::to_string(fd.get()) +
                                        " is not open for reading, so it cannot be mapped");
  }
  // The open mode is what the kernel enforces, whatever an attribute says.
  const Access rights = mode == O_RDWR ? Access::read_write : Access::read_only;
  RegionInfo info;
  if (auto told = describe(fd.get())) {
    info.name = told->name;
    info.size = told->size;
    info.cache.requested = told->cache_requested;
    info.cache.effective = told->cache_effective;
    info.cache.mechanism = told->cache_mechanism;
    info.durability = told->durability;
    info.confinement = told->confinement;
    info.published_unix = told->published_unix;
  } else {
    inspect(fd.get(), rights, info);
  }
  if (info.size == 0) {
    throw Error(ErrorCode::invalid, "descriptor " + std::to_string(fd.get()) +
                                        " has no bytes to map: it is no grant, or its region was revoked");
  }
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  return Grant(std::move(fd), rights, std::move(info));
}

void Grant::send(int unix_socket) const {
  char byte = 'G';
  iovec data{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  // SAFETY: control is aligned for a cmsghdr and has room for exactly one descriptor.
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = fd_.get();
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(unix_socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) raise_errno("sendmsg of a grant", errno);
}

Grant Grant::receive(int unix_socket) {
  char byte = 0;
  iovec data{&byte, 1};
  // One more than is wanted: CMSG_SPACE of one has room for a second, which would be installed unseen.
  constexpr std::size_t kRoom = 2;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kRoom * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(unix_socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) raise_errno("recvmsg of a grant", errno);
  std::vector<Fd> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      // SAFETY: i is within the count of descriptors that the kernel's header announces.
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  if (got == 0 && fds.empty())
    throw Error(ErrorCode::unavailable, "the peer closed the socket instead of sending a grant");
  if (fds.size() != 1 || (message.msg_flags & MSG_CTRUNC) != 0) {
    throw Error(ErrorCode::malformed, "the peer's message carried " + std::to_string(fds.size()) +
                                          " descriptors instead of one grant");
  }
  return adopt(std::move(fds.front()));
}

}  // namespace mapcap
