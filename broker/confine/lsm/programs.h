// The LSM programs: compiled in, loaded and attached once, pinned, and found again by the next broker.
//
//     PINS/marks-1, PINS/brokers-1     the maps; the number is the layout of their entries
//     PINS/links-FINGERPRINT/HOOK      one link a hook, of the object with that fingerprint
//
// A broker with other programs attaches its own beside the old ones, on the same maps, and then drops the
// old: at no moment is a marked file unconfined.
#pragma once

#include <string>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap::broker::confine::lsm {

struct Maps {
  Fd marks;    ///< Inode storage: a file with an entry is confined.
  Fd brokers;  ///< Task storage: a process whose leader has an entry is exempt.
};

/// Loads every program that this kernel has a hook for, and lets go of them again. Errors: `unsupported`.
Result<void> try_programs();

/// Errors: `unsupported` where the kernel refuses, `denied` where `pins` is not root's own, `io`.
Result<Maps> find_or_attach(const std::string& pins);

/// Confines the file. Idempotent. Errors: `io`.
Result<void> mark(const Maps& maps, BorrowedFd file);

/// The maps as they are pinned; what is not is not valid. Errors: `io`.
Result<Maps> pinned_maps(const std::string& pins);

/// Exempts a process, all its threads, until it ends. `process`: its pidfd. Errors: `io`.
Result<void> exempt(const Maps& maps, BorrowedFd process);

/// The same of the calling one.
Result<void> exempt_this_process(const Maps& maps);

}  // namespace mapcap::broker::confine::lsm
