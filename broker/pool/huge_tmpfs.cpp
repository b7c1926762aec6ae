// The filesystem that memory of huge pages lies on: no path leads to it.
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "base/machine/memory.h"
#include "broker/pool/memory.h"

namespace mapcap::broker::pool {

// SAFETY of the raw calls: fsopen and friends take and return plain descriptors.
Result<Fd> detached_huge_tmpfs() {
  Fd context(static_cast<int>(::syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)));
  if (!context.valid()) return io_error("fsopen tmpfs", errno);
  const std::string size = std::to_string(machine::total_memory().value);
  for (const auto& [key, value] : {std::pair<const char*, const char*>{"huge", "always"},
                                   {"size", size.c_str()},
                                   {"nr_inodes", "0"},
                                   {"mode", "0700"}}) {
    if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, key, value, 0) != 0) {
      return failure(ErrorCode::unsupported, std::string("this kernel's tmpfs does not take ") + key + "=" +
                                                 value + "; set huge = \"never\" in the pool");
    }
  }
  if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return io_error("creating a tmpfs", errno);
  }
  Fd mount(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC,
                                      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)));
  if (!mount.valid()) return io_error("fsmount tmpfs", errno);
  return mount;
}

}  // namespace mapcap::broker::pool
