#include "client/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

namespace mapcap::cli {

std::size_t terminal_width(int fd) {
  if (::isatty(fd) != 1) return 0;
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment meanwhile.
  const char* columns = std::getenv("COLUMNS");
  return columns == nullptr ? 0 : std::strtoul(columns, nullptr, 10);
}

std::string fitted(const std::string& text, std::size_t width, std::size_t column) {
  if (width == 0) return text;
  std::istringstream lines(text);
  std::string result;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t own = std::min(line.find_first_not_of(' '), line.size());
    const bool explains =
        column > 0 && line.size() > column && own < column && line[column - 1] == ' ' && line[column] != ' ';
    std::size_t indent = explains || own >= column ? std::max(own, column) : own;
    // In a column too narrow for words the text goes on further left.
    if (indent + 20 > width) indent = std::min<std::size_t>(own, 2);
    while (line.size() > width) {
      std::size_t cut = line.rfind(' ', width);
      if (cut == std::string::npos || cut <= indent) cut = line.find(' ', std::max(width, indent + 1));
      if (cut == std::string::npos) break;
      result += line.substr(0, cut) + '\n';
      line = std::string(indent, ' ') + line.substr(line.find_first_not_of(' ', cut));
    }
    result += line + '\n';
  }
  return result;
}

std::string shortened(const std::string& line, std::size_t width) {
  constexpr std::string_view kCut = "...";
  if (width == 0 || line.size() <= width) return line;
  if (width <= kCut.size()) return line.substr(line.size() - width);
  const std::size_t kept = width - kCut.size();
  return line.substr(0, kept / 2) + std::string(kCut) + line.substr(line.size() - (kept - kept / 2));
}

}  // namespace mapcap::cli
