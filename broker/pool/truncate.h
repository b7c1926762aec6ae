// Truncation that can be given up.
//
// On a DAX filesystem ftruncate waits until nobody pins a page of the file (vmsplice, io_uring buffers,
// RDMA), which a hostile holder may never end. A signal ends that wait (ext4_break_layouts and its kin sleep
// TASK_INTERRUPTIBLE, before anything has changed), so a timer of the calling thread sends one. The call is
// made by the broker itself and not by a child, because BPF LSM confinement lets nobody else truncate.
//
// The kernel looks for pins only in files that somebody maps (dax_layout_busy_page, up to Linux 6.14): who
// pins a page and unmaps the file would go on reading whatever its blocks hold next. So the broker maps it
// meanwhile. It looks at pages that were touched since the inode came to memory: after a restart of the
// broker, when the inode may have left memory in between, they are all touched first.
#pragma once

#include <chrono>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap::broker::pool {

/// Whether the broker has had the file open, without a gap, since before it was first granted.
enum class Watched : bool { with_gaps, always };

/// Truncates `fd` (open for reading and writing) to nothing, on any thread. The deadline bounds the wait for
/// pins, not the work on a large file. Takes the process's handler of SIGRTMIN + 7. Errors: `timed_out` when
/// somebody still pins its pages, and then nothing has changed; `io`.
Result<void> truncate_within(BorrowedFd fd, Watched watched, std::chrono::milliseconds deadline);

/// Sets or clears the append-only attribute, which forbids truncation to everybody, the broker too; the
/// other attributes stay. Filesystems that have none of these count as cleared. Errors: `io`.
enum class AppendOnly : bool { off, on };
Result<void> set_append_only(BorrowedFd fd, AppendOnly wanted);

}  // namespace mapcap::broker::pool
