#pragma once

#include "base/result.h"

namespace mapcap::broker::foreign {

/// From here on every system call that the examiner does not need ends it. Errors: `unsupported`, `io`.
Result<void> sandbox_examiner();

}  // namespace mapcap::broker::foreign
