// Who could put something else where a path leads. As sshd's StrictModes: a file that decides over others
// must be writable by its owner alone, and so must every directory above it, or somebody could rename it away.
//
// Two differences. What is looked at are opened descriptors, and the way up is their "..", so that nothing can be
// exchanged between the look and the use. And a directory that others may write is no danger when it has the sticky
// bit (/tmp), since what lies in it on the way belongs to a trusted owner, and only owners rename there.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap {

/// A directory and all above it. `owner`: who may own them beside root. Errors: `denied`, one sentence with the
/// directory that is wrong, why, and what to do; `io`.
Result<void> check_trusted_directory(BorrowedFd directory, uid_t owner);

/// An opened file, the directory that `path` (by which it was opened) names, and that where it really lies. Errors: the
/// same, of the file or of a directory.
Result<void> check_trusted_file(BorrowedFd file, const std::string& path, uid_t owner);

}  // namespace mapcap
