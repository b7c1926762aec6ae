// Plain sealed memory, for pools whose policy says `confinement = "sealed"`.
#pragma once

#include <memory>

#include "broker/confine/confiner.h"

namespace mapcap::broker::confine {

/// Hands out fresh opens of the region's own memory or file. Confines nothing but rights and size: holders
/// can read and write through the descriptor. Sets a carved file's mode to 0600, so that a read-only holder
/// cannot open it again for writing.
std::unique_ptr<Confiner> make_sealed();

}  // namespace mapcap::broker::confine
