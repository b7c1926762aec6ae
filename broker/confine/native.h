// Memory whose descriptors can only be mmapped by nature.
#pragma once

#include <memory>

#include "broker/confine/confiner.h"

namespace mapcap::broker::confine {

/// For devdax and PCI BARs (fresh opens), dma-bufs and memfd_secret (a dup of the one description, `rw`
/// only). attach refuses everything else as `unsupported`.
std::unique_ptr<Confiner> make_native();

}  // namespace mapcap::broker::confine
