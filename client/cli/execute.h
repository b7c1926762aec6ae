// What run, clone and dev have in common: the program that the user named.
#pragma once

#include <string>
#include <vector>

#include "client/cli/commands.h"

namespace mapcap::cli {

/// execvp(3): in this process's place. Returns errno; not at all when the program runs.
int execute(const std::vector<std::string>& program);

/// What is told when execute() has returned `error`.
NotRun not_run(const std::string& program, int error);

}  // namespace mapcap::cli
