// Waiting for a descriptor where no loop runs.
#pragma once

#include <poll.h>

#include <cerrno>
#include <chrono>

#include "mapcap/fd.h"

namespace mapcap {

/// Waits until the descriptor has something to read, or has ended. False when time is up.
inline bool await_readable(BorrowedFd fd, std::chrono::steady_clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() < 0) return false;
    pollfd watched{fd.get(), POLLIN, 0};
    const int ready = ::poll(&watched, 1, static_cast<int>(left.count()));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

}  // namespace mapcap
