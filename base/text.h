// Text from elsewhere: is it fit to be printed, and how to make it so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mapcap {

/// Whether control characters (C0 and DEL) are let through. NUL never is.
enum class Controls : std::uint8_t { refused, allowed };

/// Position of the first byte that does not belong to well-formed UTF-8 (RFC 3629: shortest form, no
/// surrogates) without NUL, or std::string_view::npos when all is well.
std::size_t find_bad_text(std::string_view text, Controls controls);

/// The same text, fit for the wire, a log line or a terminal: each bad byte becomes '?', and what does not
/// fit max_bytes (at least 3) is cut before a whole character and replaced by "...".
std::string presentable(std::string_view text, std::size_t max_bytes);

}  // namespace mapcap
