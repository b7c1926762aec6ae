#include "broker/keeper/setup.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/small_file.h"
#include "broker/wait/scheduling.h"

namespace mapcap::broker::keeper {
namespace {

Result<void> close_others(std::span<const BorrowedFd> keep) {
  Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return io_error("open /dev/null", errno);
  std::vector<unsigned> numbers;
  for (const BorrowedFd fd : keep) {
    MAPCAP_INVARIANT(fd.get() > STDERR_FILENO, "a descriptor of the keeper is in a standard stream's place");
    numbers.push_back(static_cast<unsigned>(fd.get()));
  }
  // A keeper that kept its broker's pipes would keep their readers waiting.
  for (int stream = 0; stream <= STDERR_FILENO; ++stream) {
    if (::dup2(null.get(), stream) < 0) return io_error("dup2 of /dev/null", errno);
  }
  null.reset();
  std::sort(numbers.begin(), numbers.end());
  unsigned next = STDERR_FILENO + 1;
  for (const unsigned number : numbers) {
    if (number > next && ::close_range(next, number - 1, 0) != 0) return io_error("close_range", errno);
    next = number + 1;
  }
  if (::close_range(next, ~0U, 0) != 0) return io_error("close_range", errno);
  return ok();
}

/// A mapping of a region or of the ledger that stayed here would keep it held for as long as the keeper
/// lives.
void unmap_shared() {
  const std::string maps = contents_of("/proc/self/maps");
  for (std::size_t at = 0; at < maps.size();) {
    const std::size_t end = std::min(maps.find('\n', at), maps.size());
    const char* line = maps.c_str() + at;
    at = end + 1;
    char* rest = nullptr;
    const std::uintptr_t from = std::strtoull(line, &rest, 16);
    if (rest == line || *rest != '-') continue;
    const std::uintptr_t to = std::strtoull(rest + 1, &rest, 16);
    // " rw-s ": the fourth letter tells shared from private.
    if (std::strlen(rest) < 5 || rest[4] != 's' || to <= from) continue;
    // SAFETY: shared mappings belong to the broker's ledger, pools and issuing page; nothing in the keeper
    // refers to them, and the keeper maps its own page afterwards.
    ::munmap(reinterpret_cast<void*>(from), to - from);
  }
}

void reset_signals() {
  struct sigaction action {};
  for (int number = 1; number < NSIG; ++number) {
    action.sa_handler = SIG_DFL;
    // It must outlive ^C in the broker's terminal and a signal to its group; the broker ends it by message.
    for (const int survived :
         {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP, SIGTTIN, SIGTTOU}) {
      if (number == survived) action.sa_handler = SIG_IGN;
    }
    ::sigaction(number, &action, nullptr);  // Fails for SIGKILL and SIGSTOP, as it should.
  }
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  limit.rlim_cur = limit.rlim_max = number_in("/proc/sys/fs/nr_open").value_or(0);
  if (limit.rlim_cur == 0 || ::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    ::getrlimit(RLIMIT_NOFILE, &limit);
  }
  return limit.rlim_cur;
}

void avoid_oom_killer() {
  // Ending the keeper frees no memory while the broker holds the regions. Best effort: needs
  // CAP_SYS_RESOURCE.
  Fd file(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (file.valid()) {
    [[maybe_unused]] const ssize_t written = ::write(file.get(), "-900", 4);
  }
}

Result<void> drop_capabilities() {
  for (unsigned long capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    ::prctl(PR_CAPBSET_DROP, capability, 0, 0,
            0);  // Fails without CAP_SETPCAP: then capset below is all there is.
  }
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> none{};
  // SAFETY: version 3 takes two data structs. Not libcap-ng as in the broker (sandbox.cpp): it keeps the number of the
  // thread that it was first used in, which is another process's in a child that was not made by fork(3).
  if (::syscall(SYS_capset, &header, none.data()) != 0) return io_error("capset", errno);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return io_error("prctl(PR_SET_NO_NEW_PRIVS)", errno);
  return ok();
}

}  // namespace

Result<void> leave_broker(std::span<const BorrowedFd> keep) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
  MAPCAP_TRY_VOID(close_others(keep));
  unmap_shared();
  if (::chdir("/") != 0) return io_error("chdir /", errno);
  return ok();
}

Result<void> give_up_power() {
  MAPCAP_TRY_VOID(drop_capabilities());
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  reset_signals();
  return ok();
}

Result<std::uint64_t> become_keeper(std::span<const BorrowedFd> keep) {
  ::prctl(PR_SET_NAME, "mapcapd-keeper", 0, 0, 0);
  MAPCAP_TRY_VOID(leave_broker(keep));
  const std::uint64_t descriptors = raise_descriptor_limit();
  avoid_oom_killer();
  // Between holders and their grants: its answers are short and must not queue behind the flooders that wait
  // for them. Throttle bounds what that can cost everybody else.
  run_promptly();
  MAPCAP_TRY_VOID(give_up_power());
  return descriptors;
}

}  // namespace mapcap::broker::keeper
