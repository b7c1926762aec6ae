#include "client/cli/execute.h"

#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace mapcap::cli {

int execute(const std::vector<std::string>& program) {
  std::vector<char*> arguments;
  for (const std::string& argument : program) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments.front(), arguments.data());
  return errno;
}

NotRun not_run(const std::string& program, int error) {
  return {Error(ErrorCode::io, "running " + program + ": " + std::generic_category().message(error),
                {{"errno", std::to_string(error)}, {"call", "execve"}}),
          error == ENOENT ? 127 : 126};
}

}  // namespace mapcap::cli
