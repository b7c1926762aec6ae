// How wide the terminal is, and text that fits it.
#pragma once

#include <cstddef>
#include <string>

namespace mapcap::cli {

/// Columns of the terminal behind standard output (`fd` 1) or standard error (2); COLUMNS where it is set; 0
/// for no limit, where neither says.
std::size_t terminal_width(int fd = 1);

/// Lines that are longer than `width` go on below, from the column in which their explanation begins
/// (`column`, or as far in as the line itself). Words stay whole. 0: unchanged.
std::string fitted(const std::string& text, std::size_t width, std::size_t column = 0);

/// One line, cut in the middle so that its end, which says most, stays. 0: unchanged.
std::string shortened(const std::string& line, std::size_t width);

}  // namespace mapcap::cli
