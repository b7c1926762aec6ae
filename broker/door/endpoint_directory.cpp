#include "broker/door/endpoint_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/fd_path.h"
#include "schema/endpoint_id.h"

namespace mapcap::broker {

namespace {

constexpr const char* kSocket = "mapcap.sock";

struct CloseListing {
  void operator()(DIR* listing) const { ::closedir(listing); }
};

/// The directory `name` below `at`, ours alone, with this mode; made when it is missing.
Result<Fd> own_directory(int at, const std::string& name, mode_t mode, const std::string& path) {
  if (::mkdirat(at, name.c_str(), 0700) != 0 && errno != EEXIST) return io_error("making " + path, errno);
  Fd directory(::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory.valid()) return io_error("opening " + path, errno);
  struct stat status {};
  if (::fstat(directory.get(), &status) != 0) return io_error("fstat of " + path, errno);
  if (status.st_uid != ::geteuid()) {
    return failure(ErrorCode::denied, path + " belongs to uid " + std::to_string(status.st_uid) +
                                          ", not to the broker: remove it, or choose another --socket path");
  }
  if ((status.st_mode & 07777U) != mode && ::fchmod(directory.get(), mode) != 0)
    return io_error("fchmod of " + path, errno);
  return directory;
}

/// Through the descriptor: the path may be longer than an address has room for.
sockaddr_un address_in(BorrowedFd directory) {
  const std::string way = fd_path(directory, kSocket);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, way.data(), way.size());
  return address;
}

Result<void> bind_in(BorrowedFd directory, BorrowedFd socket, const std::string& path) {
  if (::unlinkat(directory.get(), kSocket, 0) != 0 && errno != ENOENT)
    return io_error("removing the socket that was in " + path, errno);
  const sockaddr_un address = address_in(directory);
  // SAFETY: sockaddr_un is what the kernel reads behind this sockaddr pointer.
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return io_error("binding a socket in " + path, errno);
  // By its name, which nobody else can have given to anything else: the directory is ours, below a closed one.
  // The umask is the process's, and threads make files meanwhile.
  if (::fchmodat(directory.get(), kSocket, 0666, 0) != 0)
    return io_error("chmod of the socket in " + path, errno);
  return ok();
}

bool listens(BorrowedFd socket) {
  int answer = 0;
  socklen_t size = sizeof answer;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &answer, &size) == 0 && answer != 0;
}

/// Whether somebody has the socket that the name in the directory is of: one of another type is then refused for that
/// (EPROTOTYPE), and nobody is disturbed.
bool is_bound(BorrowedFd directory) {
  const Fd other(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = address_in(directory);
  // SAFETY: sockaddr_un is what the kernel reads behind this sockaddr pointer.
  return other.valid() &&
         ::connect(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
         errno == EPROTOTYPE;
}

}  // namespace

EndpointDirectory::EndpointDirectory(const std::string& socket, bool (*refuse)(BorrowedFd), Mounter mounter)
    : refuse_(refuse), mounter_(std::move(mounter)) {
  const std::size_t slash = socket.rfind('/');
  path_ = (slash == std::string::npos ? std::string(".") : socket.substr(0, slash)) + "/endpoints";
}

Result<BorrowedFd> EndpointDirectory::root(bool make) {
  if (root_.valid()) return root_.borrow();
  struct stat status {};
  if (!make && ::lstat(path_.c_str(), &status) != 0 && errno == ENOENT) return BorrowedFd();
  MAPCAP_TRY(Fd found, own_directory(AT_FDCWD, path_, 0700, path_));
  if (::flock(found.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return io_error("locking " + path_, errno);
    return failure(ErrorCode::busy, "another broker has its endpoints in " + path_ +
                                        ": give each a --socket in a directory of its own");
  }
  root_ = std::move(found);
  return root_.borrow();
}

Result<ListeningSocket> EndpointDirectory::listen(const std::string& place, Fd inherited) {
  MAPCAP_TRY(const BorrowedFd above, root(true));
  const std::string path = path_of(place);
  if (const std::size_t slash = place.find('/'); slash != std::string::npos) {
    MAPCAP_TRY_VOID(own_directory(above.get(), place.substr(0, slash), 0700, path));
  }
  MAPCAP_TRY(const Fd directory, own_directory(above.get(), place, 0755, path));
  ListeningSocket listening;
  const bool goes_on = inherited.valid() && listens(inherited.borrow()) && is_bound(directory.borrow());
  listening.fd = goes_on ? std::move(inherited)
                         : Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listening.fd.valid()) return io_error("socket", errno);
  listening.refuses_descriptors = refuse_(listening.fd.borrow());
  if (goes_on) return listening;
  MAPCAP_TRY_VOID(bind_in(directory.borrow(), listening.fd.borrow(), path));
  if (::listen(listening.fd.get(), kBacklog) != 0) return io_error("listening in " + path, errno);
  return listening;
}

Result<void> EndpointDirectory::remove(const std::string& place) {
  MAPCAP_TRY(const BorrowedFd above, root(false));
  if (!above.valid()) return ok();
  const std::string socket = place + "/" + kSocket;
  if (::unlinkat(above.get(), socket.c_str(), 0) != 0 && errno != ENOENT && errno != ENOTDIR)
    return io_error("removing " + path_of(place) + "/" + kSocket, errno);
  if (::unlinkat(above.get(), place.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return io_error("removing " + path_of(place), errno);
  // The user's, if that was the last in it.
  if (const std::size_t slash = place.find('/'); slash != std::string::npos)
    (void)::unlinkat(above.get(), place.substr(0, slash).c_str(), AT_REMOVEDIR);
  return ok();
}

Result<void> check_place(const std::string& place) {
  const std::size_t slash = place.find('/');
  if (slash == std::string::npos) return schema::check_endpoint_id(place);
  const std::string user = place.substr(0, slash);
  const bool is_one = user.size() > 1 && user.size() <= 11 && user.front() == '@' &&
                      user.find_first_not_of("0123456789", 1) == std::string::npos;
  if (!is_one) return failure(ErrorCode::invalid, "the place of an endpoint is ID or @UID/ID");
  return schema::check_endpoint_id(place.substr(slash + 1));
}

Result<Fd> mount_below(BorrowedFd root, const std::string& place, const std::string& path) {
  Fd mount(::open_tree(root.get(), place.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  if (!mount.valid() && errno == EPERM) {
    return failure(ErrorCode::unsupported,
                   "this broker may make no mounts, since it runs without CAP_SYS_ADMIN: use " + path + "/" +
                       std::string(kSocket) + " by its path");
  }
  if (!mount.valid()) return io_error("open_tree of " + path, errno);
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (::mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
    return io_error("mount_setattr of " + path, errno);
  return mount;
}

Result<Fd> EndpointDirectory::mount_of(const std::string& place) const {
  return mounter_ ? mounter_(place) : mount_below(root_.borrow(), place, path_of(place));
}

Result<void> EndpointDirectory::sweep(const std::set<std::string>& known) {
  MAPCAP_TRY(const BorrowedFd above, root(false));
  return above.valid() ? sweep_below(above, "", known) : ok();
}

Result<void> EndpointDirectory::sweep_below(BorrowedFd directory, const std::string& below,
                                            const std::set<std::string>& known) {
  const int again = ::openat(directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, CloseListing> listing(again < 0 ? nullptr : ::fdopendir(again));
  if (!listing) return io_error("reading " + path_ + "/" + below, errno);
  std::vector<std::string> left;
  std::vector<std::string> users;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): of a stream that is this function's alone.
  while (const dirent* entry = ::readdir(listing.get())) {
    const std::string name = entry->d_name;
    if (schema::check_endpoint_id(name) && !known.contains(below + name)) left.push_back(below + name);
    if (below.empty() && name.starts_with('@')) users.push_back(name);
  }
  Result<void> all = ok();
  for (const std::string& place : left) {
    if (Result<void> one = remove(place); !one) all = std::move(one);
  }
  for (const std::string& user : users) {
    const Fd theirs(::openat(directory.get(), user.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!theirs.valid()) continue;
    if (Result<void> one = sweep_below(theirs.borrow(), user + "/", known); !one) all = std::move(one);
  }
  return all;
}

}  // namespace mapcap::broker
