#include "client/cli/beside.h"

#include <filesystem>
#include <system_error>

namespace mapcap::cli {

std::optional<std::string> find_beside(const std::string& name, const std::string& from_program,
                                       const std::string& built, const std::string& installed) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path own = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const fs::path& place : {own / from_program, own / built, fs::path(installed)}) {
    const fs::path file = place / name;
    if (fs::exists(file, ignored)) return file.lexically_normal();
  }
  return std::nullopt;
}

}  // namespace mapcap::cli
