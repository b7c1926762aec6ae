#include "client/cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace mapcap::cli {
namespace {

// A handler may touch neither strings nor streams.
std::array<char, 512> text_{};
volatile sig_atomic_t length_ = 0;

void tell_and_end(int signal) {
  [[maybe_unused]] const ssize_t put =
      ::write(STDERR_FILENO, text_.data(), static_cast<std::size_t>(length_));
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

}  // namespace

ToldOnInterrupt::ToldOnInterrupt(const std::string& text) : set_(!text.empty()) {
  if (!set_) return;
  const std::size_t size = std::min(text.size(), text_.size());
  std::memcpy(text_.data(), text.data(), size);
  length_ = static_cast<sig_atomic_t>(size);
  ::signal(SIGINT, tell_and_end);
  ::signal(SIGTERM, tell_and_end);
}

ToldOnInterrupt::~ToldOnInterrupt() {
  if (!set_) return;
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
}

}  // namespace mapcap::cli
