#include "base/trusted_path.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>
#include <vector>

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

/// One directory, and not what is above it.
Result<void> check_one(BorrowedFd directory, const struct stat& status, uid_t owner) {
  const auto what = [&] { return "the directory " + place_of(directory); };
  if (!trusted_owner(status, owner)) return foreign(what(), status, owner);
  if ((status.st_mode & 0022) == 0 || (status.st_mode & S_ISVTX) != 0) return ok();
  return failure(ErrorCode::denied,
                 what() +
                     " may be written by others than its owner, who could put something else "
                     "in the place of what lies below it: chmod go-w it");
}

Result<void> check_upwards(BorrowedFd directory, uid_t owner) {
  struct stat status {};
  if (::fstat(directory.get(), &status) != 0) return io_error("fstat of " + place_of(directory), errno);
  Fd above;
  for (BorrowedFd here = directory;;) {
    MAPCAP_TRY_VOID(check_one(here, status, owner));
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

/// Where a path leads, component by component, as the kernel would go.
class Way {
 public:
  explicit Way(uid_t owner) : owner_(owner) {}

  /// What lies at its end. Errors: `denied` for a directory or link on it that is not trusted; `io`.
  Result<Fd> follow(const std::string& path) {
    MAPCAP_TRY_VOID(begin_with(path));
    while (!left_.empty()) {
      const std::string name = std::move(left_.back());
      left_.pop_back();
      Fd next(::openat(here_.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
      struct stat status {};
      if (!next.valid() || ::fstat(next.get(), &status) != 0) return io_error("opening " + path, errno);
      if (S_ISLNK(status.st_mode)) {
        MAPCAP_TRY_VOID(turn(next.borrow(), status, place_of(here_.borrow()) + "/" + name));
        continue;
      }
      if (S_ISDIR(status.st_mode)) {
        MAPCAP_TRY_VOID(check_one(next.borrow(), status, owner_));
      } else if (!left_.empty()) {
        return io_error("opening " + path, ENOTDIR);
      }
      here_ = std::move(next);
    }
    return std::move(here_);
  }

 private:
  static constexpr int kMostLinks = 40;  // As many as the kernel follows.

  Result<void> begin_with(std::string_view path) {
    const bool absolute = path.starts_with('/');
    if (absolute || !here_.valid()) {
      here_ = Fd(::open(absolute ? "/" : ".", kDirectory));
      if (!here_.valid()) return io_error("opening the directory that a path begins in", errno);
      MAPCAP_TRY_VOID(check_upwards(here_.borrow(), owner_));
    }
    while (!path.empty()) {
      const std::size_t slash = path.rfind('/');
      const std::string_view last = path.substr(slash == std::string_view::npos ? 0 : slash + 1);
      if (!last.empty() && last != ".") left_.emplace_back(last);
      path = path.substr(0, slash == std::string_view::npos ? 0 : slash);
    }
    return ok();
  }

  Result<void> turn(BorrowedFd link, const struct stat& status, const std::string& place) {
    if (!trusted_owner(status, owner_)) {
      return failure(ErrorCode::denied, "the link " + place + " belongs to user " +
                                            std::to_string(status.st_uid) +
                                            ", who could turn it elsewhere; it must belong to " +
                                            owners(owner_) + ": make it anew, or name what it leads to");
    }
    if (++links_ > kMostLinks) return io_error("following the link " + place, ELOOP);
    std::array<char, PATH_MAX> target{};
    const ssize_t length = ::readlinkat(link.get(), "", target.data(), target.size());
    if (length <= 0) return io_error("reading the link " + place, errno);
    return begin_with({target.data(), static_cast<std::size_t>(length)});
  }

  uid_t owner_;
  int links_ = 0;
  Fd here_;
  std::vector<std::string> left_;  ///< Of the path, the next component last.
};

Result<void> check_way(BorrowedFd end, const std::string& path, uid_t owner) {
  MAPCAP_TRY(const Fd found, Way(owner).follow(path));
  struct stat opened {};
  struct stat now {};
  if (::fstat(end.get(), &opened) != 0 || ::fstat(found.get(), &now) != 0)
    return io_error("fstat of " + path, errno);
  if (same(opened, now)) return ok();
  return failure(ErrorCode::denied, path + " was moved or removed while it was looked at");
}

}  // namespace

Result<void> check_trusted_directory(BorrowedFd directory, const std::string& path, uid_t owner) {
  MAPCAP_TRY_VOID(check_upwards(directory, owner));
  return check_way(directory, path, owner);
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
  Result<void> way = check_way(file, path, owner);
  if (!way && way.error().code == ErrorCode::io && status.st_nlink == 0)
    return failure(ErrorCode::denied, path + " was moved or removed while it was looked at");
  return way;
}

}  // namespace mapcap
