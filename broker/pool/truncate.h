// Truncation that can be given up.
//
// On a DAX filesystem ftruncate waits until nobody pins a page of the file (vmsplice, io_uring buffers,
// RDMA), which a hostile holder may never end. A signal ends that wait (ext4_break_layouts and its kin sleep
// TASK_INTERRUPTIBLE, before anything has changed), so a timer of the calling thread sends one. The call is
// made by the broker itself and not by a child, because BPF LSM confinement lets nobody else truncate.
#pragma once

#include <chrono>

#include "schema/result.h"
#include "schema/unique_fd.h"

namespace mapcap::broker::pool {

/// Truncates `fd` (open for writing) to nothing, on any thread. The deadline bounds the wait for pins, not
/// the work on a large file. Takes the process's handler of SIGRTMIN + 7. Errors: `timed_out` when somebody
/// still pins its pages, and then nothing has changed; `io`.
schema::Result<void> truncate_within(schema::BorrowedFd fd, std::chrono::milliseconds deadline);

/// Sets or clears the append-only attribute, which forbids truncation to everybody, the broker too; the
/// other attributes stay. Filesystems that have none of these count as cleared. Errors: `io`.
enum class AppendOnly : bool { off, on };
schema::Result<void> set_append_only(schema::BorrowedFd fd, AppendOnly wanted);

}  // namespace mapcap::broker::pool
