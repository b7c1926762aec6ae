// Before something is done that cannot be undone.
#pragma once

#include <cstdint>
#include <string>

namespace mapcap::cli {

/// Asks on the terminal and returns when the answer is yes. Errors: `denied` for any other answer; `invalid`
/// when standard input is no terminal, since then nobody can be asked (--yes does it).
void ask(const std::string& question);

/// "1 region", "2 regions"
std::string counted(std::uint64_t count, const std::string& what);

}  // namespace mapcap::cli
