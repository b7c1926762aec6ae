#include "broker/wait/scheduling.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace mapcap::broker {
namespace {

/// sched_attr of sched_setattr(2), as far as every kernel since 3.14 knows it; glibc has neither.
struct Attributes {
  std::uint32_t size = 48;
  std::uint32_t policy = SCHED_OTHER;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime_ns = 0;  ///< The slice, 100 us to 100 ms; 0 is the kernel's choice.
  std::uint64_t deadline_ns = 0;
  std::uint64_t period_ns = 0;
};
static_assert(sizeof(Attributes) == 48);

constexpr std::uint64_t kShortestSlice = 100'000;

bool set(const Attributes& wanted) {
  // SAFETY: the kernel reads wanted.size bytes; 0 is the calling thread.
  return ::syscall(SYS_sched_setattr, 0, &wanted, 0) == 0;
}

}  // namespace

void run_promptly() {
  Attributes wanted;
  wanted.nice = kPromptNice;
  wanted.runtime_ns = kShortestSlice;
  if (set(wanted)) return;
  wanted.nice = ::getpriority(PRIO_PROCESS, 0);
  set(wanted);
}

void run_patiently() {
  set(Attributes{});
}

}  // namespace mapcap::broker
