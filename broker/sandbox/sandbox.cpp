#include "broker/sandbox/sandbox.h"

#include <cap-ng.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/small_file.h"
#include "broker/wait/scheduling.h"

namespace mapcap::broker::sandbox {

namespace {

struct Capability {
  unsigned number;
  const char* name;
  bool required;
};

constexpr std::array<Capability, 6> kKept{{
    {CAP_SYS_ADMIN, "CAP_SYS_ADMIN", true},
    {CAP_LINUX_IMMUTABLE, "CAP_LINUX_IMMUTABLE", true},
    {CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE", false},
    {CAP_IPC_LOCK, "CAP_IPC_LOCK", false},
    {CAP_BPF, "CAP_BPF", false},
    {CAP_PERFMON, "CAP_PERFMON", false},
}};

// What is left to the broker. Grouped by why it needs them; everything else ends the process.
// clang-format off
constexpr const char* kAllowed[] = {
    // memory and threads
    "brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "msync", "mincore", "mbind", "mlock", "munlock",
    "futex", "clone", "clone3", "fork", "exit", "exit_group", "set_robust_list", "rseq", "set_tid_address",
    "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_setscheduler", "sched_getparam",
    "sched_getscheduler", "sched_setattr", "membarrier", "gettid", "getpid", "getppid", "getuid", "geteuid", "getgid",
    "getegid", "getgroups", "getcpu", "restart_syscall", "sysinfo", "uname", "getrusage",
    // signals, timers, waiting
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "tgkill", "kill",
    "pidfd_open", "pidfd_send_signal", "pidfd_getfd", "wait4", "waitid", "nanosleep", "clock_nanosleep",
    "clock_gettime", "clock_getres", "gettimeofday", "time", "timerfd_create", "timerfd_settime",
    "timerfd_gettime", "timer_create", "timer_settime", "timer_delete", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6", "eventfd2",
    "signalfd4", "pipe", "pipe2",
    // files that it owns: state directory, ledger, DAX files, sysfs
    "read", "readv", "pread64", "preadv", "write", "writev", "pwrite64", "pwritev", "open", "openat",
    "openat2", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "flock", "fstat", "stat", "lstat",
    "newfstatat", "statx", "statfs", "fstatfs", "lseek", "access", "faccessat", "faccessat2", "readlink",
    "readlinkat", "getdents64", "getcwd", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate",
    "unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "linkat", "symlinkat",
    "umask", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "fgetxattr", "fsetxattr",
    "ioctl", "memfd_create", "memfd_secret", "fadvise64", "getxattr",
    // sockets
    "socketpair", "bind", "listen", "connect", "accept4", "getsockopt", "setsockopt",
    "getsockname", "getpeername", "sendmsg", "sendto", "sendmmsg", "recvmsg", "recvfrom", "shutdown",
    // a new keeper, and what it does to itself
    "setsid", "chdir", "getpriority", "setpriority", "prctl", "capget", "capset",
    "seccomp", "setrlimit", "getrlimit", "setpgid", "getrandom", "arch_prctl",
    // the pin that shows where the kernel counts pins
    "vmsplice",
#ifdef MAPCAP_SANITIZED
    // the sanitizers' own runtime: leak checking stops its threads from a helper
    "ptrace", "personality", "process_vm_readv", "prctl", "sched_setaffinity", "vfork",
#endif
};
/// And to whoever has the machine's power.
constexpr const char* kOfPower[] = {
    // a keeper's mount, the mounts through which devices are issued, and what reads the kernel
    "fsopen", "fsconfig", "fsmount", "open_tree", "mount_setattr", "bpf",
    // pins of the lsm confinement that are replaced
    "rmdir",
};
// clang-format on

/// Hard limit for RLIMIT_NOFILE that an administrator may have set lower than the kernel's own maximum.
rlim_t kernel_descriptor_maximum() {
  return number_in("/proc/sys/fs/nr_open").value_or(1U << 20U);
}

}  // namespace

Result<void> prepare_process() {
  // libpmem2 reads these at every map; what the ledger's medium can do is for the hardware to say.
  for (const char* name : {"PMEM2_FORCE_GRANULARITY", "PMEM_IS_PMEM_FORCE", "PMEM_NO_FLUSH", "PMEM_NO_CLWB",
                           "PMEM_NO_CLFLUSHOPT", "PMEM_MOVNT_THRESHOLD", "PMEM_NO_MOVNT", "PMEM_MMAP_HINT",
                           "PMEMBLK_CONF", "PMEM_AVX", "PMEM_AVX512F", "PMEM_NO_GENERIC_MEMCPY"}) {
    ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe): before any thread exists.
  }
  // What the starter ignored would be lost until the loop listens, and ended children with it.
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) std::signal(number, SIG_DFL);
  // What it had blocked would never reach the loop.
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::umask(077);
  ::prctl(PR_SET_DUMPABLE, 0);
  std::signal(SIGPIPE, SIG_IGN);
  run_promptly();
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return io_error("getrlimit", errno);
  const rlimit wanted{kernel_descriptor_maximum(), kernel_descriptor_maximum()};
  if (::setrlimit(RLIMIT_NOFILE, &wanted) != 0) {
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return io_error("setrlimit", errno);
  }
  return ok();
}

Result<void> check_privileges() {
  if (::geteuid() != 0) {
    return failure(
        ErrorCode::denied,
        "mapcapd must be started as root: it mounts FUSE and drops what it does not need; a private "
        "broker without root is what `mapcap dev` starts");
  }
  capng_clear(CAPNG_SELECT_ALL);
  if (capng_get_caps_process() != 0) return io_error("reading the process's capabilities", errno);
  for (const Capability& capability : kKept) {
    if (capability.required && capng_have_capability(CAPNG_EFFECTIVE, capability.number) == 0) {
      return failure(
          ErrorCode::denied,
          std::string("mapcapd lacks ") + capability.name +
              ": start it as root outside of user namespaces, with that capability in its bounding set");
    }
  }
  return ok();
}

namespace {

/// For the whole process; nothing that it has not.
Result<void> keep_only(std::span<const unsigned> numbers) {
  capng_clear(CAPNG_SELECT_ALL);
  if (capng_get_caps_process() != 0) return io_error("reading the process's capabilities", errno);
  std::vector<unsigned> held;
  for (const unsigned number : numbers) {
    if (capng_have_capability(CAPNG_PERMITTED, number) != 0) held.push_back(number);
  }
  capng_clear(CAPNG_SELECT_ALL);
  for (const unsigned number : held)
    capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED), number);
  if (capng_apply(CAPNG_SELECT_ALL) != 0) return io_error("dropping capabilities", errno);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return io_error("setting no-new-privs", errno);
  return ok();
}

}  // namespace

Result<void> drop_privileges(EndsHolders ends_holders) {
  std::vector<unsigned> kept;
  for (const Capability& capability : kKept) kept.push_back(capability.number);
  if (ends_holders == EndsHolders::yes) kept.push_back(CAP_KILL);
  return keep_only(kept);
}

Result<void> give_power_away() {
  constexpr unsigned kHarmless[] = {CAP_LINUX_IMMUTABLE, CAP_SYS_RESOURCE, CAP_IPC_LOCK};
  return keep_only(kHarmless);
}

namespace {

Result<void> allow(scmp_filter_ctx filter, std::span<const char* const> names) {
  for (const char* name : names) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR) continue;  // Newer than libseccomp: then nothing here calls it either.
    const int added = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
    if (added != 0 && added != -EEXIST)
      return io_error(std::string("allowing the system call ") + name, -added);
  }
  return ok();
}

/// Calls of which one argument decides: any other value is refused, since libraries try.
Result<void> allow_one(scmp_filter_ctx filter, const char* name, unsigned argument, std::uint64_t value) {
  const int number = seccomp_syscall_resolve_name(name);
  const scmp_arg_cmp same{argument, SCMP_CMP_EQ, value, 0};
  const scmp_arg_cmp other{argument, SCMP_CMP_NE, value, 0};
  int added = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, 1, &same);
  if (added == 0) added = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), number, 1, &other);
  if (added != 0) return io_error(std::string("allowing the system call ") + name, -added);
  return ok();
}

}  // namespace

Result<void> filter_system_calls(Role role, std::span<const char* const> more) {
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_KILL_PROCESS),
                                                                 &seccomp_release);
  if (!filter) return failure(ErrorCode::io, "libseccomp cannot make a filter");
  MAPCAP_TRY_VOID(allow(filter.get(), kAllowed));
  MAPCAP_TRY_VOID(allow(filter.get(), more));
  constexpr const char* kByArgument[] = {"socket", "prlimit64"};
  if (role == Role::confined) {
    MAPCAP_TRY_VOID(allow_one(filter.get(), "socket", 0, AF_UNIX));
    MAPCAP_TRY_VOID(allow_one(filter.get(), "prlimit64", 0, 0));  // CAP_SYS_RESOURCE reaches others' limits.
  } else {
    MAPCAP_TRY_VOID(allow(filter.get(), kOfPower));
    MAPCAP_TRY_VOID(allow(filter.get(), kByArgument));
    // lsm_list_modules(2), which libseccomp 2.5 has no name for: a reload may add a pool of the lsm confinement.
    constexpr int kListLsm = 461;
    if (const int added = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, kListLsm, 0);
        added != 0 && added != -EEXIST)
      return io_error("allowing the system call lsm_list_modules", -added);
  }
  // libndctl and libdaxctl ask for modules that are loaded already; where one is not, that fails as it would
  // without CAP_SYS_MODULE.
  for (const char* name : {"init_module", "finit_module"}) {
    const int number = seccomp_syscall_resolve_name(name);
    if (const int added = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), number, 0); added != 0)
      return io_error(std::string("refusing the system call ") + name, -added);
  }
  seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  if (const int loaded = seccomp_load(filter.get()); loaded != 0)
    return io_error("loading the seccomp filter", -loaded);
  return ok();
}

}  // namespace mapcap::broker::sandbox
