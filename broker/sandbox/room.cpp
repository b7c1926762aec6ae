#include "broker/sandbox/room.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "mapcap/fd.h"

namespace mapcap::broker::sandbox {
namespace {

namespace fs = std::filesystem;

/// Where the new root is put together. Every machine has it, and what is below is not needed meanwhile.
constexpr const char* kSite = "/proc";

struct Piece {
  std::string path;  ///< Absolute, without dots.
  Fd tree;
  bool directory = false;
};

std::string absolute(const std::string& path) {
  return fs::absolute(path).lexically_normal().string();
}

bool is_below(const std::string& path, const std::string& above) {
  return path == above || path.starts_with(above.ends_with('/') ? above : above + "/");
}

/// Nothing for a path that is not there.
Result<void> take(std::vector<Piece>& pieces, const std::string& path, unsigned whole,
                  std::uint64_t attributes) {
  Piece piece;
  piece.path = absolute(path);
  while (piece.path.size() > 1 && piece.path.ends_with('/')) piece.path.pop_back();
  piece.tree = Fd(::open_tree(AT_FDCWD, piece.path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | whole));
  if (!piece.tree.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) return ok();
    return io_error("open_tree of " + piece.path, errno);
  }
  struct stat status {};
  if (::fstat(piece.tree.get(), &status) != 0) return io_error("fstat of " + piece.path, errno);
  piece.directory = S_ISDIR(status.st_mode);
  mount_attr wanted{};
  wanted.attr_set = attributes;
  if (::mount_setattr(piece.tree.get(), "", AT_EMPTY_PATH | whole, &wanted, sizeof wanted) != 0)
    return io_error("mount_setattr of " + piece.path, errno);
  pieces.push_back(std::move(piece));
  return ok();
}

Result<void> put(const Piece& piece) {
  const std::string target = std::string(kSite) + piece.path;
  std::error_code failed;
  fs::create_directories(piece.directory ? fs::path(target) : fs::path(target).parent_path(), failed);
  if (failed) return io_error("making " + piece.path + " in the broker's room", failed.value());
  if (!piece.directory) {
    const Fd made(::open(target.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (!made.valid()) return io_error("making " + piece.path + " in the broker's room", errno);
  }
  if (::move_mount(piece.tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return io_error("mounting " + piece.path + " in the broker's room", errno);
  return ok();
}

/// Makes kSite the root, and lets go of what was it.
Result<void> move_in() {
  if (::chdir(kSite) != 0) return io_error("entering the broker's room", errno);
  // SAFETY: no libc wrapper; takes two paths. Both the same: the old root comes to lie on top of the new one.
  if (::syscall(SYS_pivot_root, ".", ".") == 0) {
    if (::umount2(".", MNT_DETACH) != 0) return io_error("leaving the old root", errno);
  } else if (errno == EINVAL) {
    // An initramfs, which cannot be pivoted away from.
    if (::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || ::chroot(".") != 0)
      return io_error("leaving the initramfs", errno);
  } else {
    return io_error("pivot_root", errno);
  }
  if (::chdir("/") != 0) return io_error("chdir /", errno);
  return ok();
}

}  // namespace

Room with_the_kernel() {
  Room room;
  room.readable = {"/proc", "/sys"};
  room.readable_trees = {"/sys/fs/cgroup"};
  room.sockets = {"/dev/null"};
  return room;
}

Result<void> enter_room(const Room& room) {
  std::error_code unknown;
  const std::string here = fs::current_path(unknown).string();
  if (::unshare(CLONE_NEWNS) != 0) return io_error("unshare of the mount namespace", errno);
  // What is unmounted outside is unmounted here, or it would stay busy; nothing that is done here is seen outside.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return io_error("taking mounts for this process's own", errno);
  constexpr std::uint64_t kNoPrograms = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
  std::vector<Piece> pieces;
  std::vector<std::string> writable;
  for (const std::string& path : room.writable) writable.push_back(absolute(path));
  std::sort(writable.begin(), writable.end());  // What contains others comes before them, and has them in it.
  std::string last;
  for (const std::string& path : writable) {
    if (!last.empty() && is_below(path, last)) continue;
    MAPCAP_TRY_VOID(take(pieces, path, AT_RECURSIVE, kNoPrograms | MOUNT_ATTR_NODEV));
    last = path;
  }
  for (const std::string& path : room.readable) {
    MAPCAP_TRY_VOID(take(pieces, path, 0, kNoPrograms | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY));
  }
  for (const std::string& path : room.readable_trees) {
    MAPCAP_TRY_VOID(take(pieces, path, AT_RECURSIVE, kNoPrograms | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY));
  }
  for (const std::string& path : room.sockets) {
    const std::string name = absolute(path);
    const bool there = std::any_of(writable.begin(), writable.end(),
                                   [&](const std::string& above) { return is_below(name, above); });
    if (there) continue;  // With its directory.
    MAPCAP_TRY_VOID(take(pieces, name, 0, kNoPrograms));
  }
  if (::mount("mapcapd", kSite, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=1m") != 0)
    return io_error("mounting a tmpfs", errno);
  for (const Piece& piece : pieces) {
    MAPCAP_TRY_VOID(put(piece));
  }
  MAPCAP_TRY_VOID(move_in());
  mount_attr read_only{};
  read_only.attr_set = MOUNT_ATTR_RDONLY;
  if (::mount_setattr(AT_FDCWD, "/", 0, &read_only, sizeof read_only) != 0)
    return io_error("closing the broker's room", errno);
  if (!here.empty())
    (void)::chdir(here.c_str());  // Paths that were given relative to it go on to mean the same.
  return ok();
}

}  // namespace mapcap::broker::sandbox
