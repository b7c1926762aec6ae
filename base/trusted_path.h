// Who could put something else where a path leads. As sshd's StrictModes: a file that decides over others
// must be writable by its owner alone, and so must every directory above it, or somebody could rename it away.
//
// Two differences. What is looked at are opened descriptors, so that nothing can be exchanged between the look and the
// use; and links are followed one by one, since whoever can turn a link, or a directory that a link leads through,
// decides as much as whoever could rename the file. And a directory that others may write is no danger when it has the sticky
// bit (/tmp), since what lies in it on the way belongs to a trusted owner, and only owners rename there;
// a link in one must be a trusted owner's, too.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap {

/// An opened directory, all above it, and the whole way by which `path` (by which it was opened) leads to it. `owner`:
/// who may own them beside root. Errors: `denied`, one sentence with the directory or link that is wrong, why, and what
/// to do; `io`.
Result<void> check_trusted_directory(BorrowedFd directory, const std::string& path, uid_t owner);

/// The same of an opened file. Errors: the same, of the file too.
Result<void> check_trusted_file(BorrowedFd file, const std::string& path, uid_t owner);

}  // namespace mapcap
