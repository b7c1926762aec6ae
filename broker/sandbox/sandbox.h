// What the broker gives up before it serves its first client.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"

namespace mapcap::broker::sandbox {

/// Process settings that must precede everything else: environment that would change how libraries behave
/// (PMEM2_*, PMEM_*), umask 077, not dumpable, as many descriptors as the hard limit allows, SIGPIPE ignored.
/// Errors: `io`.
Result<void> prepare_process();

/// Errors: `denied`, one sentence naming the missing privilege, when the process cannot do its job: not root,
/// or without a capability of kKept (capabilities(7)).
Result<void> check_privileges();

/// Whether the broker may signal other users' processes.
enum class EndsHolders : bool { no, yes };

/// Drops every capability but CAP_SYS_ADMIN (fuse mount, BACKING_OPEN), CAP_LINUX_IMMUTABLE (append flag),
/// CAP_SYS_RESOURCE (descriptors in flight), CAP_IPC_LOCK, CAP_BPF and CAP_PERFMON (the lsm confiner), and
/// CAP_KILL where a pool's policy ends holders; empties the bounding and ambient sets and sets no-new-privs.
/// For the whole process: call before threads exist. Errors: `io`.
Result<void> drop_privileges(EndsHolders ends_holders);

/// The same of a broker whose mint has the power: what is left are CAP_LINUX_IMMUTABLE (append flag), CAP_SYS_RESOURCE
/// (descriptors in flight are counted for all of uid 0 together, a container's root too) and CAP_IPC_LOCK (secret memory).
Result<void> give_power_away();

/// Whose filter it is.
enum class Role : std::uint8_t {
  powerful,  ///< A broker that has the power itself.
  mint,
  confined,  ///< A broker whose mint has it: no mounts, no BPF, no sockets but local ones, no limits but its own.
};

/// Installs the system-call filter on all threads: anything that the process has no use for -- execve, ptrace,
/// mount, setns, keyctl, io_uring, ... -- ends it. `more`: allowed beside that, by a test's program. Errors: `io`.
Result<void> filter_system_calls(Role role = Role::powerful, std::span<const char* const> more = {});

}  // namespace mapcap::broker::sandbox
