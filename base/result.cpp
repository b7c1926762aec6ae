#include "base/result.h"

#include <system_error>

namespace mapcap {

Failure io_error(std::string_view what, int errno_value) {
  std::string reason = std::generic_category().message(errno_value);
  return Failure{ErrorCode::io,
                 std::string(what) + ": " + reason,
                 {{"errno", std::to_string(errno_value)}, {"call", std::string(what)}}};
}

}  // namespace mapcap
