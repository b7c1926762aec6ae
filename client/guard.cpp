#include "mapcap/guard.h"

#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "client/convert.h"
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

// What was there before us. Written once, before the handler can run for the first time.
struct sigaction previous {};
std::mutex installing;
bool installed = false;

// Lets the fault do what it would have done without us.
void pass_on(int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
    return;
  }
  const bool fault = info->si_code > 0;  // not sent by kill()
  if (previous.sa_handler == SIG_IGN && !fault) return;
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
    return;
  }
  // Back to the default, and again: a fault repeats itself on return, a sent signal has to be sent once more.
  struct sigaction fatal {};
  fatal.sa_handler = SIG_DFL;
  ::sigaction(signal, &fatal, nullptr);
  if (!fault) ::raise(signal);
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (info->si_code > 0) {
    for (Frame* frame = innermost; frame != nullptr; frame = frame->outer) {
      if (address < frame->begin || address >= frame->end) continue;
      innermost = frame->outer;
      // Whoever called us (a handler that was installed over ours, ThreadSanitizer's) may have blocked signals.
      // SAFETY: with SA_SIGINFO the context is a ucontext_t, which has the mask at the fault.
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
  if (::sigaction(SIGBUS, nullptr, &current) != 0) raise(schema::io_error("sigaction(SIGBUS)", errno));
  if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == on_bus_error) return;
  previous = current;
  struct sigaction ours {};
  ours.sa_sigaction = on_bus_error;
  // The handler itself restores the mask, so a guard without a fault costs no system call.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  if (::sigaction(SIGBUS, &ours, nullptr) != 0) raise(schema::io_error("sigaction(SIGBUS)", errno));
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
