#include "mapcap/inherited.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <set>

#include "mapcap/error.h"

namespace mapcap {
namespace {

constexpr int kFirst = 3;
// More than any process can have open: the number comes from an environment.
constexpr int kMost = 1 << 20;

int number(const char* variable, const char* text) {
  const std::string_view digits(text);
  int value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() || value < 0 || value > kMost) {
    throw Error(ErrorCode::malformed, std::string("the environment variable ") + variable +
                                          " is not a number of descriptors or a pid");
  }
  return value;
}

// NOLINTBEGIN(concurrency-mt-unsafe): the header tells callers when to call.
const char* environment(const char* variable) {
  const char* text = std::getenv(variable);
  return text != nullptr && *text != '\0' ? text : nullptr;
}
// NOLINTEND(concurrency-mt-unsafe)

std::string_view last_component(std::string_view name) {
  return name.substr(name.rfind('/') + 1);
}

std::mutex taking;
std::set<int>& taken() {
  static std::set<int> fds;
  return fds;
}

}  // namespace

std::vector<Inherited> inherited() {
  const char* pid = environment("LISTEN_PID");
  const char* count = environment("LISTEN_FDS");
  if (count == nullptr) return {};
  if (pid != nullptr && number("LISTEN_PID", pid) != ::getpid()) return {};
  std::vector<Inherited> found;
  const int last = kFirst + number("LISTEN_FDS", count);
  const char* text = environment("LISTEN_FDNAMES");
  std::string_view names = text != nullptr ? text : "";
  for (int fd = kFirst; fd < last; ++fd) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) continue;  // closed since
    const std::string_view name = names.substr(0, names.find(':'));
    found.push_back({name.empty() ? "unknown" : std::string(name), fd});
    names.remove_prefix(std::min(names.size(), name.size() + 1));
  }
  return found;
}

Grant inherited(std::string_view name) {
  const std::lock_guard lock(taking);
  const Inherited* match = nullptr;
  bool ambiguous = false;
  std::string there;
  const std::vector<Inherited> all = inherited();
  for (const Inherited& one : all) {
    there += (there.empty() ? "" : ", ") + one.name;
    if (taken().contains(one.fd)) continue;
    if (one.name == name) {
      match = &one;
      ambiguous = false;
      break;
    }
    if (last_component(one.name) != name) continue;
    ambiguous = match != nullptr;
    match = &one;
  }
  if (match == nullptr || ambiguous) {
    throw Error(ErrorCode::not_found,
                "no inherited grant is named " + std::string(name) + (ambiguous ? " unambiguously" : "") +
                    " (" +
                    (there.empty() ? "none was passed; start this program with `mapcap run NAME -- PROGRAM`"
                                   : "passed: " + there) +
                    ")");
  }
  const int fd = match->fd;
  taken().insert(fd);
  Grant grant = Grant::adopt(Fd(fd));
  return grant;
}

}  // namespace mapcap
