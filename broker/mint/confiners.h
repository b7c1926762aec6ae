// Confiners of a broker that has no power: what they cannot do by themselves they ask of the mint.
#pragma once

#include <memory>

#include "base/result.h"
#include "broker/confine/confiner.h"
#include "broker/mint/link.h"
#include "broker/wait/worker.h"

namespace mapcap::broker::mint {

/// confine::make_lsm: the mint attaches the programs, exempts this process, and marks each file. Both outlive it. Errors:
/// those of confine::start_lsm, and Link::ask's.
Result<std::unique_ptr<confine::Confiner>> make_lsm(Link& link, Worker& worker);

}  // namespace mapcap::broker::mint
