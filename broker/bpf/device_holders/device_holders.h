// Who still has a device: no system call tells how often a device is open, nor whether pages of it are
// pinned, and a device may go to its next tenant only when both are nothing. The kernel counts both for
// itself; a BPF program, run on demand and attached to nothing, reads its counters.
//
//     opens of a character device     cdev->kobj.kref - 1: one for each open file description, which mappings
//                                     hold too, also descriptors in flight over a socket; not O_PATH
//     opens of a sysfs file           kernfs_node->attr.open is there while any is
//     pins of a device-DAX page       page->_refcount - 1: a mapping holds none (Linux 6.1 to 6.14) or is an
//     open
//                                     file too; vmsplice, io_uring buffers, RDMA do, after unmapping and
//                                     closing
#pragma once

#include <sys/types.h>

#include <memory>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "mapcap/fd.h"

namespace mapcap::broker::device_holders {

/// Memory of a device that is physically contiguous.
struct Range {
  std::uint64_t start = 0;  ///< Physical address.
  std::uint64_t size = 0;   ///< Bytes.
};

/// Thread-safe; loaded once, before the system call filter, for it needs CAP_BPF and CAP_PERFMON.
class Census {
 public:
  virtual ~Census() = default;

  /// Open file descriptions of a character device or a sysfs file (for these: 0 or 1); `node` may be O_PATH.
  /// Errors: `invalid` for anything else, `io`.
  virtual Result<std::uint32_t> opens(BorrowedFd node) = 0;

  /// Whether anybody pins a page of a device-DAX device. `device`: open for reading and writing, by nobody
  /// else; it begins at ranges.front().start. `alignment`: the device's, what it can be mapped in. Errors:
  /// `unsupported` where the kernel counts pins in a way that is not known, `io`.
  virtual Result<bool> pinned(BorrowedFd device, ByteCount alignment, const std::vector<Range>& ranges) = 0;

  /// The processes that have a device (as in opens()) open or mapped, but the caller: each once. A descriptor
  /// that is under way in a socket or that only the kernel holds (io_uring), and a pinned page, are nobody's
  /// here. Errors: `unsupported` where the kernel cannot list them, `io`.
  virtual Result<std::vector<pid_t>> processes(BorrowedFd node) = 0;
};

/// Ends with SIGKILL those that processes() names, but the init process; returns how many. Errors: those of
/// processes().
Result<std::size_t> end_processes(Census& census, BorrowedFd node);

/// Errors: `unsupported` where the kernel or the build cannot.
Result<std::shared_ptr<Census>> load();

}  // namespace mapcap::broker::device_holders
