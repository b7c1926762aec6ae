// The mints of a broker: processes called mapcapd-mint that were started with its state directory.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace mapcap::test {

struct MintProcess {
  pid_t pid = 0;
  pid_t parent = 0;
};

inline std::string text_of_process(pid_t pid, const char* file) {
  std::ifstream text("/proc/" + std::to_string(pid) + "/" + file);
  return {std::istreambuf_iterator<char>(text), {}};
}

/// "PPid", "CapEff": one word of /proc/PID/status; empty for a process that is gone.
inline std::string status_word(pid_t pid, const std::string& field) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(field + ":")) continue;
    const std::size_t value = line.find_first_not_of(" \t", field.size() + 1);
    return line.substr(value, line.find_first_of(" \t", value) - value);
  }
  return {};
}

/// Those that live: the one that serves, its heir, and children at work. In the order of their starts.
inline std::vector<MintProcess> mints_of(const std::string& state_directory) {
  std::vector<MintProcess> found;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", gone)) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ec != std::errc{}) continue;
    if (!text_of_process(pid, "comm").starts_with("mapcapd-mint")) continue;
    if (text_of_process(pid, "cmdline").find(state_directory) == std::string::npos) continue;
    if (status_word(pid, "State") == "Z") continue;
    const std::string parent = status_word(pid, "PPid");
    if (!parent.empty()) found.push_back({pid, static_cast<pid_t>(std::stol(parent))});
  }
  return found;
}

}  // namespace mapcap::test
