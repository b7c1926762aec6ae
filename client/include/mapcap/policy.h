// What a broker says of its policy, and answers to a question about it.
#pragma once

#include <optional>

#include "mapcap/error.h"
#include "mapcap/policy_info.h"

namespace mapcap {

struct PolicyAnswer : PolicyGrounds {
  std::optional<Error> refusal;  ///< Absent: allowed. Else what would be answered.
};

}  // namespace mapcap
