// Whether the attached programs do what they are for.
#pragma once

#include "base/result.h"
#include "broker/confine/lsm/programs.h"

namespace mapcap::broker::confine::lsm {

/// Marks a file of its own and tries once what each hook refuses, and what it must leave alone; then exempts
/// this process and tries that it may again. A kernel whose list of LSMs lacks bpf loads and attaches
/// programs as any other, and never asks them. Errors: `unsupported`, naming the first operation that was
/// not answered as it should be; `io`.
Result<void> test(const Maps& maps);

}  // namespace mapcap::broker::confine::lsm
