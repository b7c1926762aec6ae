// The directory that holds the ledger and the keeper's socket, and the one lock that keeps a second broker
// out.
#pragma once

#include <string>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap::broker {

/// Makes the directory if it is missing (mode 0700), checks that it is root's alone and writable, and locks
/// it. The lock ends with the returned descriptor. Errors: `busy` when another broker uses it, `denied` when
/// others could write there, `io`; each says what to do.
Result<Fd> claim_state_directory(const std::string& path);

/// Makes the directory that a socket is to be in, if only its last component is missing (mode 0755).
Result<void> make_socket_directory(const std::string& socket);

}  // namespace mapcap::broker
