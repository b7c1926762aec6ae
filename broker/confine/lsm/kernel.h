// What the running kernel must be for BPF LSM programs to confine anything.
#pragma once

#include <string>

namespace mapcap::broker::confine::lsm {

/// Why LSM programs cannot be relied upon here, in one sentence that says what to do; empty when nothing
/// speaks against it. Changes nothing.
std::string kernel_lacks();

}  // namespace mapcap::broker::confine::lsm
