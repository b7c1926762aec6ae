// What a mint does, kind by kind. Each function is given a request that the wire has let pass, and its descriptors.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "broker/mint/mint.h"
#include "broker/mint/wire.h"
#include "mapcap/fd.h"

namespace mapcap::broker::mint {

struct Given {
  wire::Answer answer;
  std::vector<Fd> fds;
};

/// Whether a child does it, since it may take its time.
bool takes_its_time(wire::Kind kind);

/// Errors: what the broker is told.
Result<Given> serve(const wire::Request& request, std::span<const Fd> fds, const Places& places);

}  // namespace mapcap::broker::mint
