// The other parts of mapcap: where they are installed, or were built, seen from this program.
#pragma once

#include <optional>
#include <string>

namespace mapcap::cli {

/// The first of these that is there: `name` in `from_program` (relative to this program's directory, as both
/// are installed), in `built` (the same of a build tree), in `installed` (absolute). Absent where none is.
std::optional<std::string> find_beside(const std::string& name, const std::string& from_program,
                                       const std::string& built, const std::string& installed);

}  // namespace mapcap::cli
