// Small texts: taken apart, and put into sentences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mapcap {

/// Takes what stands before the next `separator` off the front of `text`, and the separator.
inline std::string_view take_until(char separator, std::string_view& text) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return taken;
}

/// Without their ends; the last one is what stands behind the last end.
inline std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (true) {
    const std::size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return lines;
    text.remove_prefix(end + 1);
  }
}

/// "1 region", "2 regions"
inline std::string counted(std::uint64_t count, std::string_view what) {
  return std::to_string(count).append(" ").append(what) + (count == 1 ? "" : "s");
}

}  // namespace mapcap
