// What a peer looks like to people: its program, and the unit or container that it runs in. A label and no authority: a
// process may call itself what it likes, and who may write cgroups may move it. So a policy may deny by it, and not allow.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "mapcap/fd.h"

namespace mapcap::policy {

/// Each empty where the kernel does not tell.
struct PeerLabel {
  std::string program;    ///< /proc/PID/comm: at most 15 bytes, of any kind.
  std::string cgroup;     ///< "/system.slice/postgresql.service", as the kernel writes it; "/" is the root.
  std::string unit;       ///< Of the cgroup: the innermost service or scope of the system's manager.
  std::string container;  ///< Of the cgroup: the first 12 digits of the innermost container's id.
  bool operator==(const PeerLabel&) const = default;
};

/// The cgroup where that is neither a unit nor a container; empty: it is one, the root, or not known.
std::string_view bare_cgroup(const PeerLabel& label);
/// " in container 0123456789ab", " in unit a.service", " in cgroup /x", fit to be printed; empty: nothing to tell.
std::string in_its_place(const PeerLabel& label);

/// Of the text of /proc/PID/cgroup: the unified hierarchy, else systemd's own.
std::string cgroup_in(std::string_view text);

/// Whether this kernel tells it of a peer without mistaking one process for another: SO_PEERPIDFD, Linux 6.5.
bool kernel_tells_cgroups();
/// "/kubepods.slice/.../cri-containerd-0123...scope": what unit and container that is.
void name_cgroup(PeerLabel& label);

/// Reads some files of the process, and then whether it still is the one of the pidfd: empty when it is not. Not valid
/// (before Linux 6.5): nothing is read, since the number may be another's. The kernel may hold whoever reads a cgroup up
/// while cgroups are made: not for the loop.
PeerLabel label_of(pid_t pid, BorrowedFd pidfd);

}  // namespace mapcap::policy
