// Fresh open file descriptions of what a descriptor refers to.
#pragma once

#include "schema/request.h"
#include "schema/result.h"
#include "schema/unique_fd.h"

namespace mapcap::broker::confine {

/// Opens the file behind `fd` again with the given rights: own offset, status flags and locks. CLOEXEC.
/// Errors: `unsupported` for what cannot be opened again, `exhausted`, `io`.
schema::Result<schema::UniqueFd> reopen(schema::BorrowedFd fd, schema::Access rights);

/// A second descriptor of the same open file description. Errors: `exhausted`, `io`.
schema::Result<schema::UniqueFd> duplicate(schema::BorrowedFd fd);

}  // namespace mapcap::broker::confine
