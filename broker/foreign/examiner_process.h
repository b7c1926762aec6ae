// The examiner: the one process that owns sockets on which strangers' descriptors ride.
//
// Whoever takes a descriptor out of a socket, or closes a socket that has some in its queue, may be the one
// who drops their last reference, and that may take as long as the sender pleases: a TCP connection lingers
// for days, a FUSE server never answers a FLUSH, a large memfd is given back page by page. So a file that is
// to be cloned travels on a socket pair (a port) whose receiving end is made here and never leaves. For each
// port, and for each socket that is to be let go of, there is a thread: one that hangs is left behind, and
// nobody else waits for it. SIGKILL ends a linger (and nothing lingers in a process that ends), so an
// examiner that does not answer is killed and replaced.
//
// It is forked from the broker, without capabilities, and under a system-call filter that opens nothing.
#pragma once

#include <sys/types.h>

#include <utility>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap::broker::foreign {

/// A child of this process. Whoever owns this reaps it; what is destroyed unused ends it, before any client was
/// served.
struct ExaminerProcess {
  ExaminerProcess(pid_t child, Fd its_control) : pid(child), control(std::move(its_control)) {}
  ExaminerProcess(ExaminerProcess&& other) noexcept
      : pid(std::exchange(other.pid, 0)), control(std::move(other.control)) {}
  ExaminerProcess& operator=(ExaminerProcess&&) = delete;
  ~ExaminerProcess();

  pid_t pid = 0;  ///< 0: somebody else's.
  Fd control;
};

/// Forks an examiner; it ends when the other end of `control` is closed. Any thread. Errors: `io`.
Result<ExaminerProcess> start_examiner();

}  // namespace mapcap::broker::foreign
