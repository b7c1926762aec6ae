// Lets go of what may take long to let go of: a file whose last descriptor closes here is given back to its
// filesystem here, page by page (a memfd of 2 GiB takes 0.4 s).
#pragma once

#include <functional>

#include "broker/wait/loop.h"
#include "broker/wait/worker.h"
#include "mapcap/fd.h"

namespace mapcap::broker {

/// One patient thread. What it costs is charged to the account that the loop worked for when it was asked.
/// Loop only.
class Closing {
 public:
  explicit Closing(Loop& loop) : loop_(loop), worker_(loop, 1, Worker::Pace::patient) {}

  void close(Fd fd);
  void run(std::function<void()> work);

 private:
  Loop& loop_;
  Worker worker_;
};

/// A descriptor that closes by Closing. Move-only; owns the descriptor.
class ClosedElsewhere {
 public:
  ClosedElsewhere(Closing& closing, Fd fd) : closing_(&closing), fd_(std::move(fd)) {}
  ClosedElsewhere(ClosedElsewhere&&) noexcept = default;
  ClosedElsewhere& operator=(ClosedElsewhere&&) = delete;
  ~ClosedElsewhere() {
    if (fd_.valid()) closing_->close(std::move(fd_));
  }
  [[nodiscard]] BorrowedFd borrow() const { return fd_.borrow(); }

 private:
  Closing* closing_;
  Fd fd_;
};

}  // namespace mapcap::broker
