// Under what name a node is opened, as long as it has one: whoever looks for the holders of a region finds it in
// /proc/PID/maps and /proc/PID/fd ("/alice:frames#2a (deleted)").
#pragma once

#include <string>
#include <string_view>

#include "broker/confine/confiner.h"

namespace mapcap::broker::keeper {

/// One name in a directory, and no other grant's: the region's, with colons for slashes and whatever else a region's name
/// has not, and the grant's number.
std::string node_name(std::string_view region_name, confine::GrantId grant);

}  // namespace mapcap::broker::keeper
