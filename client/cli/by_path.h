// run --at: regions under paths of the caller's choice, for programs that know paths only.
#pragma once

#include <string>
#include <vector>

#include "mapcap/client.h"

namespace mapcap::cli {

/// One --at whose region has been opened.
struct GrantAtPath {
  std::string path;  ///< As the user wrote it.
  Grant grant;
};

/// Throws `unsupported` for a program into which no library can be preloaded: one that is statically linked,
/// set-uid or of another architecture; a script is judged by its interpreter. `program` is looked up as
/// execvp(3) does; what is not found is left to that. Errors: `unsupported`, naming the file.
void check_preloadable(const std::string& program);

/// Puts the grants among this process's descriptors, from 500 up and open across exec, and says in the
/// environment (LD_PRELOAD, MAPCAP_AT) what they are. To be called just before exec, after everything that
/// can be refused. Errors: `invalid` for a path that is given twice, `io`, `not_found` where the library to
/// preload is not installed.
void serve_paths(std::vector<GrantAtPath> grants);

}  // namespace mapcap::cli
