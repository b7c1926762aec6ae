// The examiner's system-call filter: sockets it makes itself, looking at a file, threads. It opens nothing.
#include "broker/foreign/examiner_sandbox.h"

#include <seccomp.h>
#include <sys/mman.h>

#include <cerrno>
#include <memory>

namespace mapcap::broker::foreign {
namespace {

int allow_everything_needed(scmp_filter_ctx filter) {
  const int plain[] = {
      // Orders and reports, and what it is there for.
      SCMP_SYS(poll),
      SCMP_SYS(ppoll),
      SCMP_SYS(sendmsg),
      SCMP_SYS(recvmsg),
      SCMP_SYS(socketpair),
      SCMP_SYS(close),
      SCMP_SYS(fstatfs),
      SCMP_SYS(fstat),
      SCMP_SYS(newfstatat),
      SCMP_SYS(clock_gettime),
      SCMP_SYS(restart_syscall),
      SCMP_SYS(rt_sigreturn),
      // Threads.
      SCMP_SYS(clone),
      SCMP_SYS(clone3),
      SCMP_SYS(set_robust_list),
      SCMP_SYS(rseq),
      SCMP_SYS(rt_sigprocmask),
      SCMP_SYS(rt_sigaction),
      SCMP_SYS(sched_getaffinity),
      SCMP_SYS(sched_yield),
      SCMP_SYS(futex),
      // The allocator.
      SCMP_SYS(brk),
      SCMP_SYS(munmap),
      SCMP_SYS(mremap),
      SCMP_SYS(madvise),
      SCMP_SYS(getrandom),
      // The end.
      SCMP_SYS(exit),
      SCMP_SYS(exit_group),
      SCMP_SYS(write),
      SCMP_SYS(getpid),
      SCMP_SYS(gettid),
      SCMP_SYS(tgkill),
#ifdef MAPCAP_SANITIZED
      // What sanitizer runtimes do on their own.
      SCMP_SYS(sched_yield),
      SCMP_SYS(sched_getaffinity),
      SCMP_SYS(gettimeofday),
      SCMP_SYS(clock_gettime),
      SCMP_SYS(rt_sigaction),
      SCMP_SYS(newfstatat),
      SCMP_SYS(sigaltstack),
      SCMP_SYS(prctl),
      SCMP_SYS(openat),
      SCMP_SYS(read),
      SCMP_SYS(lseek),
      SCMP_SYS(readlink),
      SCMP_SYS(nanosleep),
      SCMP_SYS(clock_nanosleep),
      SCMP_SYS(getrusage),
      SCMP_SYS(getrlimit),
      SCMP_SYS(prlimit64),
      SCMP_SYS(pipe),
      SCMP_SYS(pipe2),
#endif
  };
  for (const int call : plain) {
    if (const int failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0); failed != 0) return failed;
  }
  // Nothing becomes executable.
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    const int failed =
        seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (failed != 0) return failed;
  }
  return 0;
}

}  // namespace

Result<void> sandbox_examiner() {
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_KILL_PROCESS),
                                                                 &seccomp_release);
  if (!filter) return failure(ErrorCode::unsupported, "seccomp_init failed: no memory");
  if (const int failed = allow_everything_needed(filter.get()); failed != 0) {
    return io_error("the examiner's system-call filter", -failed);
  }
  if (const int failed = seccomp_load(filter.get()); failed != 0) {
    return io_error("loading the examiner's system-call filter", -failed);
  }
  return ok();
}

}  // namespace mapcap::broker::foreign
