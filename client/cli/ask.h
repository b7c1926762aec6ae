// Before something is done that cannot be undone.
#pragma once

#include <string>

namespace mapcap::cli {

/// Asks on the terminal and returns when the answer is yes. Errors: `denied` for any other answer; `invalid`
/// when standard input is no terminal, since then nobody can be asked (--yes does it).
void ask(const std::string& question);

}  // namespace mapcap::cli
