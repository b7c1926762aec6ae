// Standard error, which somebody may read or not.
#pragma once

#include <cstddef>
#include <string>

namespace mapcap::broker {

/// What one write takes without waiting where poll says that there is room: PIPE_BUF.
inline constexpr std::size_t kLongestLogLine = 4096;

/// All of it now, or nothing: whoever reads the log may be stopped and its pipe full, and nobody else must wait for
/// that. At most kLongestLogLine bytes.
bool write_to_log(const std::string& bytes);

}  // namespace mapcap::broker
