// The broker's directory on a bpffs.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap::broker::confine::lsm {

/// Makes the directory when missing, checks that it is root's alone, and locks it against other brokers until
/// the descriptor is closed. Errors: `denied`, `unsupported` (no bpffs there), `io`.
Result<Fd> claim_pins(const std::string& path);

/// A pinned object, or an invalid descriptor when there is none. Errors: `io`.
Result<Fd> find_pin(const std::string& path);

/// Names in a directory. Empty when there is none.
std::vector<std::string> names_in(const std::string& path);

/// Unpins everything in a directory of pins, and removes it. Errors: `io`.
Result<void> remove_pins(const std::string& path);

}  // namespace mapcap::broker::confine::lsm
