#include "base/trusted_path.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd_path.h"

namespace mapcap {
namespace {

constexpr int kDirectory = O_PATH | O_DIRECTORY | O_CLOEXEC;

/// Where the descriptor's object lies now; as the kernel prints it.
std::string place_of(BorrowedFd fd) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlink(fd_path(fd).c_str(), target.data(), target.size());
  return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : "(unknown)";
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return path.substr(0, slash == 0 ? 1 : slash);
}

bool same(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool trusted_owner(const struct stat& status, uid_t owner) {
  return status.st_uid == 0 || status.st_uid == owner;
}

std::string owners(uid_t owner) {
  return owner == 0 ? "root" : "root or user " + std::to_string(owner);
}

Failure foreign(const std::string& what, const struct stat& status, uid_t owner) {
  return failure(ErrorCode::denied, what + " belongs to user " + std::to_string(status.st_uid) +
                                        ", who could change it; it must belong to " + owners(owner) +
                                        ": chown it");
}

}  // namespace

Result<void> check_trusted_directory(BorrowedFd directory, uid_t owner) {
  struct stat status {};
  if (::fstat(directory.get(), &status) != 0) return io_error("fstat of " + place_of(directory), errno);
  Fd above;
  for (BorrowedFd here = directory;;) {
    const std::string what = "the directory " + place_of(here);
    if (!trusted_owner(status, owner)) return foreign(what, status, owner);
    if ((status.st_mode & 0022) != 0 && (status.st_mode & S_ISVTX) == 0) {
      return failure(ErrorCode::denied,
                     what +
                         " may be written by others than its owner, who could put something else "
                         "in the place of what lies below it: chmod go-w it");
    }
    Fd next(::openat(here.get(), "..", kDirectory));
    if (!next.valid()) return io_error("opening the directory above " + place_of(here), errno);
    struct stat parent {};
    if (::fstat(next.get(), &parent) != 0) return io_error("fstat of " + place_of(next.borrow()), errno);
    if (same(status, parent)) return ok();
    status = parent;
    above = std::move(next);
    here = above.borrow();
  }
}

Result<void> check_trusted_file(BorrowedFd file, const std::string& path, uid_t owner) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return io_error("fstat of " + path, errno);
  if (!trusted_owner(status, owner)) return foreign(path, status, owner);
  if ((status.st_mode & 0022) != 0) {
    const bool everybody = (status.st_mode & S_IWOTH) != 0;
    return failure(ErrorCode::denied,
                   path + " may be written by " +
                       (everybody ? "everybody" : "group " + std::to_string(status.st_gid)) + ": chmod " +
                       (everybody ? "o-w" : "g-w") + " it");
  }
  // Whoever could turn a link decides as much as whoever could rename the file.
  const std::string real = place_of(file);
  const std::size_t slash = real.rfind('/');
  const Fd lies_in(::open(directory_of(real).c_str(), kDirectory));
  struct stat entry {};
  if (!lies_in.valid() ||
      ::fstatat(lies_in.get(), real.c_str() + slash + 1, &entry, AT_SYMLINK_NOFOLLOW) != 0 ||
      !same(entry, status)) {
    return failure(ErrorCode::denied, path + " was moved or removed while it was looked at");
  }
  MAPCAP_TRY_VOID(check_trusted_directory(lies_in.borrow(), owner));
  const Fd named(::open(directory_of(path).c_str(), kDirectory));
  if (!named.valid()) return io_error("opening the directory of " + path, errno);
  return check_trusted_directory(named.borrow(), owner);
}

}  // namespace mapcap
