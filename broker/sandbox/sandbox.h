// What the broker gives up before it serves its first client.
#pragma once

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

/// Installs the system-call filter on all threads: anything that the broker has no use for -- execve, ptrace,
/// mount, setns, keyctl, io_uring, ... -- ends the process. Errors: `io`.
Result<void> filter_system_calls();

}  // namespace mapcap::broker::sandbox
