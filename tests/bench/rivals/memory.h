// What memory costs once it is there: faults and bandwidth through a grant, beside the bare memfd or file.
#pragma once

#include <vector>

#include "tests/bench/rivals/servers.h"

namespace mapcap::bench {

/// Writes a line of JSON for each kind and round; bare and granted take turns.
void measure_memory(const std::vector<Servers::Kind>& kinds, int rounds);

}  // namespace mapcap::bench
