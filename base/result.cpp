#include "base/result.h"

#include <cerrno>
#include <system_error>

namespace mapcap {

Failure io_error(std::string_view what, int errno_value) {
  std::string sentence = std::string(what) + ": " + std::generic_category().message(errno_value);
  std::vector<Detail> details{{"errno", std::to_string(errno_value)}, {"call", std::string(what)}};
  // Limits that are not ours, by the names under which they are raised.
  const bool ours = errno_value == EMFILE;
  if (ours || errno_value == ENFILE) {
    sentence += ours ? "; raise this process's limit on open files (RLIMIT_NOFILE)"
                     : "; raise the machine's limit on open files (fs.file-max)";
    details.push_back({"limit_name", ours ? "RLIMIT_NOFILE" : "fs.file-max"});
  }
  return Failure{ours || errno_value == ENFILE ? ErrorCode::exhausted : ErrorCode::io, std::move(sentence),
                 std::move(details)};
}

}  // namespace mapcap
