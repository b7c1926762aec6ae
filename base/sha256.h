// SHA-256 (FIPS 180-4) of a text in memory, as sha256sum(1) prints it: to tell which file is in force. Nothing
// secret depends on it.
#pragma once

#include <string>
#include <string_view>

namespace mapcap {

/// 64 hexadecimal digits.
std::string sha256(std::string_view text);

}  // namespace mapcap
