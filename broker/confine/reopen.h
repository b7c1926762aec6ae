// Fresh open file descriptions of what a descriptor refers to.
#pragma once

#include "base/result.h"
#include "mapcap/fd.h"
#include "mapcap/words.h"

namespace mapcap::broker::confine {

/// Opens the file behind `fd` again with the given rights: own offset, status flags and locks. CLOEXEC.
/// Errors: `unsupported` for what cannot be opened again, `exhausted`, `io`.
Result<Fd> reopen(BorrowedFd fd, Access rights);

/// A second descriptor of the same open file description. Errors: `exhausted`, `io`.
Result<Fd> duplicate(BorrowedFd fd);

}  // namespace mapcap::broker::confine
