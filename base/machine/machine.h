// What the running machine can do. Each probe asks the kernel for the thing itself where that leaves no
// trace, and reads what the kernel says of itself where it does not; none changes anything. Used before the
// daemon starts and by whoever wants to know beforehand.
#pragma once

#include <cstdint>
#include <string>

namespace mapcap::machine {

enum class Presence : std::uint8_t {
  present,
  missing,
  unknown,  ///< This user may not find out.
};

struct Fact {
  Presence presence = Presence::unknown;
  std::string found;   ///< What was seen, for people: "Linux 6.18.44".
  std::string remedy;  ///< What to do; empty when present.
};

/// "Linux 6.18.44". missing below 6.1, the oldest that anything here was tried on.
Fact kernel();
/// CAP_SYS_ADMIN in the initial user namespace: FUSE mounts and backing files need it.
Fact administrator();
/// /dev/fuse, and an INIT that offers FUSE_PASSTHROUGH (Linux 6.9, CONFIG_FUSE_PASSTHROUGH). Asks the kernel
/// by a mount that is attached nowhere and closed again; without CAP_SYS_ADMIN it reads the kernel's
/// configuration.
Fact fuse_passthrough();
/// memfd_secret(2): Linux 5.14, and not disabled.
Fact memfd_secret();
/// FS_APPEND_FL on a memfd: keeps MADV_REMOVE from holders. Linux 6.6 for tmpfs.
Fact append_flag();
/// "bpf" among the active LSMs, kernel BTF, a BPF filesystem, and a kernel that takes LSM programs: asked with CAP_SYS_ADMIN by
/// a program that names nothing to attach to, which such a kernel finds invalid and others forbid.
Fact bpf_lsm();
/// cachestat(2) is there (Linux 6.5). Asked before system calls are filtered, or not at all.
bool cachestat();
/// Transparent huge pages for shared memory, and how many blocks of 2 MiB are free in one piece.
Fact huge_pages();
/// How the kernel accounts memory that was promised and not touched (vm.overcommit_memory), and under strict accounting
/// what its commit limit has left: missing when that is nothing. `proc`: where procfs is mounted.
Fact memory_accounting(const std::string& proc = "/proc");
/// More than one memory node.
Fact numa();
/// SO_PASSRIGHTS: the kernel refuses clients' descriptors for us (Linux 6.16). Without it they are not
/// received.
Fact refuses_descriptors();
/// RLIMIT_NOFILE: one descriptor a region and a grant in flight.
Fact descriptor_limit();
/// A directory that belongs to the caller alone, or that can be made: its parent must exist. Says who uses it
/// already.
Fact state_directory(const std::string& path);
/// A path at which a socket can be bound: short enough, and nothing but a socket there.
Fact socket_path(const std::string& path);

}  // namespace mapcap::machine
