// What the commands on many regions share.
#pragma once

#include <string>

#include "mapcap/client.h"

namespace mapcap::cli {

/// On stderr, so that the empty answer on stdout stays one.
void tell_nothing_matches(Client& client, const std::string& glob);

}  // namespace mapcap::cli
