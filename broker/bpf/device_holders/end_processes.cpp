#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "broker/bpf/device_holders/device_holders.h"

namespace mapcap::broker::device_holders {

Result<std::size_t> end_processes(Census& census, BorrowedFd node) {
  MAPCAP_TRY(const std::vector<pid_t> found, census.processes(node));
  std::vector<std::pair<pid_t, Fd>> held;
  for (const pid_t pid : found) {
    if (pid <= 1) continue;
    Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (process.valid()) held.emplace_back(pid, std::move(process));
  }
  // A number may have gone to another process before its pidfd was opened: who is still named is the one.
  MAPCAP_TRY(const std::vector<pid_t> still, census.processes(node));
  std::size_t ended = 0;
  for (const auto& [pid, process] : held) {
    if (std::find(still.begin(), still.end(), pid) == still.end()) continue;
    if (::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) == 0) ++ended;
  }
  return ended;
}

}  // namespace mapcap::broker::device_holders
