#include "mapcap/guard.h"

#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "client/raise.h"
#include "mapcap/error.h"
#include "mapcap/mapping.h"

namespace mapcap {
namespace {

struct Frame {
  std::uintptr_t begin;
  std::uintptr_t end;
  Frame* outer;
  sigjmp_buf back;
};

// Read by the handler. initial-exec: the handler must not be the first to touch this thread's copy of a
// dynamically allocated block.
__attribute__((tls_model("initial-exec"))) thread_local Frame* innermost = nullptr;

// What was there before us, the newest first: each is a handler over which install() put ours. Nodes are
// never changed nor freed, since a handler may be walking them.
struct Previous {
  struct sigaction action;
  const Previous* older;
};
std::atomic<const Previous*> newest{nullptr};
std::mutex installing;
bool installed = false;

// A handler that was installed over ours chains to ours, and ours, installed over that again, passes on to
// it: the fault comes back to us while that handler runs, and then goes to the next older one. It is the same
// fault when the siginfo is the same object and this call is deeper in the stack than the one that passed it
// on; a handler that has left by siglongjmp leaves nothing behind that the next fault would be taken for.
struct Passing {
  const siginfo_t* info;
  std::uintptr_t frame;
  const Previous* next;
};
__attribute__((tls_model("initial-exec"))) thread_local Passing passing{};

// Back to the default, and again: a fault repeats itself on return, a sent signal has to be sent once more.
void end_as_without_us(int signal, bool fault) {
  struct sigaction fatal {};
  fatal.sa_handler = SIG_DFL;
  ::sigaction(signal, &fatal, nullptr);
  if (!fault) ::raise(signal);
}

// Lets the fault do what it would have done without us.
__attribute__((noinline)) void pass_on(int signal, siginfo_t* info, void* context) {
  const auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  const bool again = passing.info == info && frame < passing.frame;
  const Previous* to = again ? passing.next : newest.load(std::memory_order_acquire);
  const bool fault = info->si_code > 0;  // not sent by kill()
  if (to == nullptr) return end_as_without_us(signal, fault);
  const struct sigaction& action = to->action;
  if ((action.sa_flags & SA_SIGINFO) == 0) {
    if (action.sa_handler == SIG_IGN && !fault) return;
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) return end_as_without_us(signal, fault);
  }
  passing = {info, frame, to->older};
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(signal, info, context);
  } else {
    action.sa_handler(signal);
  }
  passing = {};
}

bool same_handler(const struct sigaction& a, const struct sigaction& b) {
  if ((a.sa_flags & SA_SIGINFO) != (b.sa_flags & SA_SIGINFO)) return false;
  return (a.sa_flags & SA_SIGINFO) != 0 ? a.sa_sigaction == b.sa_sigaction : a.sa_handler == b.sa_handler;
}

// `list` without `action`.
const Previous* without(const Previous* list, const struct sigaction& action) {
  if (list == nullptr) return nullptr;
  const Previous* rest = without(list->older, action);
  if (same_handler(list->action, action)) return rest;
  return rest == list->older ? list : new Previous{list->action, rest};
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (info->si_code > 0) {
    for (Frame* frame = innermost; frame != nullptr; frame = frame->outer) {
      if (address < frame->begin || address >= frame->end) continue;
      innermost = frame->outer;
      // Whoever called us (a handler that was installed over ours, ThreadSanitizer's) may have blocked
      // signals. SAFETY: with SA_SIGINFO the context is a ucontext_t, which has the mask at the fault.
      ::pthread_sigmask(SIG_SETMASK, &static_cast<const ucontext_t*>(context)->uc_sigmask, nullptr);
      // SAFETY: the frame is on this thread's stack, below run_guarded, which has not returned.
      ::siglongjmp(frame->back, 1);
    }
  }
  pass_on(signal, info, context);
}

void install(bool again) {
  const std::lock_guard lock(installing);
  if (installed && !again) return;
  struct sigaction current {};
  if (::sigaction(SIGBUS, nullptr, &current) != 0) raise(io_error("sigaction(SIGBUS)", errno));
  if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == on_bus_error) return;
  const Previous* before = newest.load(std::memory_order_relaxed);
  if (before == nullptr || !same_handler(before->action, current))
    newest.store(new Previous{current, without(before, current)}, std::memory_order_release);
  struct sigaction ours {};
  ours.sa_sigaction = on_bus_error;
  // The handler itself restores the mask, so a guard without a fault costs no system call.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  if (::sigaction(SIGBUS, &ours, nullptr) != 0) raise(io_error("sigaction(SIGBUS)", errno));
  installed = true;
}

void check_range(const Mapping& mapping, std::size_t offset, std::size_t length) {
  if (offset > mapping.size() || length > mapping.size() - offset) {
    throw Error(ErrorCode::invalid, "bytes " + std::to_string(offset) + " to " +
                                        std::to_string(offset + length) + " are not within the mapping of " +
                                        std::to_string(mapping.size()) + " bytes");
  }
}

}  // namespace

void install_guard() {
  install(true);
}

namespace detail {

Touch run_guarded(const void* begin, std::size_t length, void (*call)(void*), void* context) {
  static std::once_flag once;
  std::call_once(once, [] { install(false); });
  Frame frame;
  frame.begin = reinterpret_cast<std::uintptr_t>(begin);
  frame.end = frame.begin + length;
  frame.outer = innermost;
  if (sigsetjmp(frame.back, 0) != 0) return Touch::revoked;
  innermost = &frame;
  // The compiler may not move the guarded touches out of the guard, nor the store to `innermost` past them.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  call(context);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  innermost = frame.outer;
  return Touch::done;
}

}  // namespace detail

Touch try_read(const Mapping& mapping, std::size_t offset, std::span<std::byte> destination) {
  check_range(mapping, offset, destination.size());
  return guarded(mapping.bytes(), [&]() noexcept {
    std::memcpy(destination.data(), mapping.bytes().data() + offset, destination.size());
  });
}

Touch try_write(Mapping& mapping, std::size_t offset, std::span<const std::byte> source) {
  check_range(mapping, offset, source.size());
  const std::span<std::byte> memory = mapping.writable();
  return guarded(memory,
                 [&]() noexcept { std::memcpy(memory.data() + offset, source.data(), source.size()); });
}

}  // namespace mapcap
