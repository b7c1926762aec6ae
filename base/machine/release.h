// The running kernel's release.
#pragma once

#include <string>
#include <utility>

namespace mapcap::machine {

/// uname(2): "6.18.44-cloud".
std::string release();
/// Its major and minor number.
std::pair<int, int> version();

}  // namespace mapcap::machine
