#include "base/small_file.h"

#include <fstream>
#include <iomanip>
#include <sstream>

namespace mapcap {

std::string contents_of(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

std::string first_line_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

std::optional<std::uint64_t> number_in(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::uint64_t number = 0;
  if (!(stream >> std::setbase(0) >> number)) return std::nullopt;
  return number;
}

}  // namespace mapcap
