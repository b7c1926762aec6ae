// Keepers and backing ids, by the mint.
#pragma once

#include <memory>

#include "broker/keeper/forge.h"
#include "broker/mint/link.h"

namespace mapcap::broker::mint {

/// `link` outlives it.
std::shared_ptr<keeper::Forge> make_forge(Link& link);

}  // namespace mapcap::broker::mint
