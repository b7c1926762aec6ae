// The keeper's system-call filter: what a loop over three descriptors and an allocator need.
#include <asm/prctl.h>
#include <linux/prctl.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>

#include "broker/keeper/fuse/abi.h"
#include "broker/keeper/setup.h"

namespace mapcap::broker::keeper {
namespace {

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

int allow_everything_needed(scmp_filter_ctx filter) {
  const int plain[] = {
      // The loop.
      SCMP_SYS(poll),
      SCMP_SYS(ppoll),
      SCMP_SYS(read),
      SCMP_SYS(writev),
      SCMP_SYS(sendmsg),
      SCMP_SYS(recvmsg),
      SCMP_SYS(accept4),
      SCMP_SYS(close),
      SCMP_SYS(clock_gettime),
      SCMP_SYS(restart_syscall),
      SCMP_SYS(rt_sigreturn),
      // The end.
      SCMP_SYS(exit),
      SCMP_SYS(exit_group),
      SCMP_SYS(write),
      SCMP_SYS(rt_sigprocmask),
      SCMP_SYS(getpid),
      SCMP_SYS(gettid),
      SCMP_SYS(tgkill),
      // The allocator.
      SCMP_SYS(brk),
      SCMP_SYS(munmap),
      SCMP_SYS(mremap),
      SCMP_SYS(madvise),
      SCMP_SYS(futex),
      SCMP_SYS(getrandom),
#ifdef MAPCAP_SANITIZED
      // What sanitizer runtimes do on their own.
      SCMP_SYS(sched_yield),
      SCMP_SYS(sigaltstack),
      SCMP_SYS(rt_sigaction),
      SCMP_SYS(mprotect),
      SCMP_SYS(prctl),
      SCMP_SYS(openat),
      SCMP_SYS(readlink),
      SCMP_SYS(newfstatat),
      SCMP_SYS(fstat),
      SCMP_SYS(nanosleep),
      SCMP_SYS(clock_nanosleep),
      SCMP_SYS(getrusage),
      SCMP_SYS(clone),
      SCMP_SYS(clone3),
      SCMP_SYS(set_robust_list),
      SCMP_SYS(rseq),
      SCMP_SYS(sched_getaffinity),
      SCMP_SYS(pipe),
      SCMP_SYS(pipe2),
#endif
  };
  for (const int call : plain) {
    if (const int failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0); failed != 0) return failed;
  }
  int failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                                SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, fuse::kClone));
  // Who is at the other end.
  if (failed == 0) {
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(getsockopt), 2,
                              SCMP_A1(SCMP_CMP_EQ, SOL_SOCKET), SCMP_A2(SCMP_CMP_EQ, SO_PEERCRED));
  }
  // Nothing becomes executable.
  if (failed == 0) {
    failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  }
  return failed;
}

}  // namespace

Result<void> sandbox_keeper() {
  const Filter filter(seccomp_init(SCMP_ACT_KILL_PROCESS), &seccomp_release);
  if (!filter) return failure(ErrorCode::unsupported, "seccomp_init failed: no memory");
  if (const int failed = allow_everything_needed(filter.get()); failed != 0) {
    return io_error("building the keeper's seccomp filter", -failed);
  }
  if (const int failed = seccomp_load(filter.get()); failed != 0) {
    return failure(ErrorCode::unsupported,
                   "the kernel refuses the keeper's seccomp filter; it needs CONFIG_SECCOMP_FILTER");
  }
  return ok();
}

}  // namespace mapcap::broker::keeper
