// Mounting: root of its own user and mount namespace tries to give the object a path, or a filesystem on top.
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "client/attack/operation.h"
#include "client/attack/syscalls.h"

namespace mapcap::attack {
namespace {

// sys/mount.h and linux/mount.h exclude each other.
constexpr unsigned long kBind = 4096;

long mount_call(const char* source, const char* target, const char* type, unsigned long flags,
                const char* data) {
  return syscall(SYS_mount, source, target, type, flags, data);
}

std::string target_file() {
  std::string name = "mount-" + std::to_string(getpid());
  const int file = open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (file >= 0) close(file);
  return name;
}

std::string target_directory() {
  std::string name = "dir-" + std::to_string(getpid());
  (void)mkdir(name.c_str(), 0700);
  return name;
}

void add_binding(Family& family) {
  family.refused("bind mount /proc/self/fd", [](const Context& c) {
    return answered(mount_call(fd_path(c.fd).c_str(), target_file().c_str(), nullptr, kBind, nullptr));
  });
  family.refused("bind mount, then open O_RDWR", [](const Context& c) {
    const std::string target = target_file();
    if (mount_call(fd_path(c.fd).c_str(), target.c_str(), nullptr, kBind, nullptr) != 0)
      return refused(errno);
    return answered(open(target.c_str(), O_RDWR | O_CLOEXEC));
  });
  family.refused("bind mount over /proc/self/fd", [](const Context& c) {
    return answered(mount_call(target_file().c_str(), fd_path(c.fd).c_str(), nullptr, kBind, nullptr));
  });
  family.harmless("open_tree AT_EMPTY_PATH", [](const Context& c) {
    return answered(syscall(SYS_open_tree, c.fd, "", AT_EMPTY_PATH | OPEN_TREE_CLOEXEC));
  });
  family.refused("open_tree OPEN_TREE_CLONE", [](const Context& c) {
    return answered(syscall(SYS_open_tree, c.fd, "", AT_EMPTY_PATH | OPEN_TREE_CLOEXEC | OPEN_TREE_CLONE));
  });
  family.refused("open_tree_attr OPEN_TREE_CLONE", [](const Context& c) {
    mount_attr attributes{};
    return answered(syscall(number::open_tree_attr, c.fd, "",
                            AT_EMPTY_PATH | OPEN_TREE_CLOEXEC | OPEN_TREE_CLONE, &attributes,
                            sizeof attributes));
  });
  family.refused("move_mount of the fd", [](const Context& c) {
    return answered(
        syscall(SYS_move_mount, c.fd, "", AT_FDCWD, target_file().c_str(), MOVE_MOUNT_F_EMPTY_PATH));
  });
  family.refused("mount_setattr AT_EMPTY_PATH", [](const Context& c) {
    mount_attr attributes{};
    attributes.attr_clr = MOUNT_ATTR_NOEXEC;
    return answered(syscall(SYS_mount_setattr, c.fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
  });
  family.refused("umount2 /proc/self/fd", [](const Context& c) {
    return answered(syscall(SYS_umount2, fd_path(c.fd).c_str(), 2 /* detach */));
  });
}

long configured(const char* type, const char* key, int fd) {
  const long context = syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
  if (context < 0) return -1;
  if (syscall(SYS_fsconfig, context, FSCONFIG_SET_FD, key, nullptr, fd) != 0) return -1;
  return syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
}

void add_filesystems(Family& family) {
  family.refused("fspick", [](const Context& c) {
    return answered(syscall(SYS_fspick, c.fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));
  });
  family.refused("overlay with it as lower layer, by path", [](const Context& c) {
    const std::string options = "lowerdir=" + fd_path(c.fd) + ":/etc";
    return answered(mount_call("overlay", target_directory().c_str(), "overlay", 0, options.c_str()));
  });
  family.refused("overlay with it as lower layer, by fd",
                 [](const Context& c) { return answered(configured("overlay", "lowerdir+", c.fd)); });
  family.refused("overlay with it as data layer, by fd",
                 [](const Context& c) { return answered(configured("overlay", "datadir+", c.fd)); });
  family.refused("fuse with it as device",
                 [](const Context& c) { return answered(configured("fuse", "fd", c.fd)); });
  for (const char* type : {"ext4", "erofs", "squashfs", "xfs"}) {
    family.refused(std::string("mount as ") + type, [type](const Context& c) {
      return answered(
          mount_call(fd_path(c.fd).c_str(), target_directory().c_str(), type, 1 /* read-only */, nullptr));
    });
  }
  family.harmless("statmount of its mount", [](const Context& c) {
    struct statx state {};
    if (statx(c.fd, "", AT_EMPTY_PATH, 0x4000 /* STATX_MNT_ID_UNIQUE */, &state) != 0) return refused(errno);
    const std::array<std::uint64_t, 4> request{32, state.stx_mnt_id, 0x3f, 0};
    std::array<std::byte, 4096> answer{};
    return answered(syscall(number::statmount, request.data(), answer.data(), answer.size(), 0));
  });
  family.harmless("listmount below its mount", [](const Context& c) {
    struct statx state {};
    if (statx(c.fd, "", AT_EMPTY_PATH, 0x4000 /* STATX_MNT_ID_UNIQUE */, &state) != 0) return refused(errno);
    const std::array<std::uint64_t, 4> request{32, state.stx_mnt_id, 0, 0};
    std::array<std::uint64_t, 64> mounts{};
    return answered(syscall(number::listmount, request.data(), mounts.data(), mounts.size(), 0));
  });
}

void add_roots(Family& family) {
  family.refused("chroot /proc/self/fd",
                 [](const Context& c) { return answered(chroot(fd_path(c.fd).c_str())); });
  family.refused("swapon /proc/self/fd",
                 [](const Context& c) { return answered(syscall(SYS_swapon, fd_path(c.fd).c_str(), 0)); });
  family.refused("acct /proc/self/fd",
                 [](const Context& c) { return answered(acct(fd_path(c.fd).c_str())); });
  family.refused("PR_SET_MM_EXE_FILE",
                 [](const Context& c) { return answered(prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, c.fd, 0, 0)); });
  // Anybody may ask any filesystem to sync; where the fd is a file of its own (lsm), it names that
  // filesystem.
  family.harmless("quotactl_fd Q_SYNC", [](const Context& c) {
    return answered(syscall(SYS_quotactl_fd, c.fd, 0x80000100 /* Q_SYNC */, 0, nullptr));
  });
}

}  // namespace

void add_mount(std::vector<Operation>& all) {
  Family family(all, "mount", Where::own_namespace);
  add_binding(family);
  add_filesystems(family);
  add_roots(family);

  // The same without a namespace of one's own.
  Family plain(all, "mount without privilege");
  add_binding(plain);
  plain.refused("fspick", [](const Context& c) {
    return answered(syscall(SYS_fspick, c.fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));
  });
}

}  // namespace mapcap::attack
