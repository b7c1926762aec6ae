#include "policy/power.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

namespace mapcap::policy {
namespace {

constexpr std::uint64_t kSysAdmin = std::uint64_t{1} << 21U;  // linux/capability.h

/// At most some kilobytes, as the kernel's small files are; empty when it cannot be read.
std::string read_small(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  std::array<char, 8192> room{};
  std::string text;
  while (file.valid()) {
    const ssize_t got = ::read(file.get(), room.data(), room.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || text.size() > room.size()) break;
    text.append(room.data(), static_cast<std::size_t>(got));
  }
  return text;
}

/// What stands behind "KEY:" on its line, without the blanks around it.
std::string_view value_of(std::string_view status, std::string_view key) {
  while (!status.empty()) {
    const std::size_t end = std::min(status.find('\n'), status.size());
    std::string_view line = status.substr(0, end);
    status.remove_prefix(std::min(end + 1, status.size()));
    if (!line.starts_with(key) || line.size() == key.size() || line[key.size()] != ':') continue;
    line.remove_prefix(key.size() + 1);
    const std::size_t first = line.find_first_not_of(" \t");
    return first == std::string_view::npos ? std::string_view() : line.substr(first);
  }
  return {};
}

template <typename Number>
std::optional<Number> number_in(std::string_view text, int base) {
  Number value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (failed != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

std::size_t words_in(std::string_view text) {
  std::size_t words = 0;
  bool blank = true;
  for (const char c : text) {
    const bool now = c == ' ' || c == '\t';
    words += blank && !now ? 1U : 0U;
    blank = now;
  }
  return words;
}

std::function<std::optional<ino_t>(pid_t)>& namespace_reader() {
  static std::function<std::optional<ino_t>(pid_t)> reader;
  return reader;
}

Credentials read_of(const std::string& process) {
  Credentials found = parse_status(read_small(process + "/status"));
  const std::string uids = read_small(process + "/uid_map");
  const std::string gids = read_small(process + "/gid_map");
  if (!uids.empty() && !gids.empty()) found.id_maps = uids + "/" + gids;
  struct stat status {};
  if (::stat((process + "/ns/user").c_str(), &status) == 0) found.user_namespace = status.st_ino;
  return found;
}

/// /proc shows the pid namespace that the broker lives in, whose numbers the socket's credentials are.
bool proc_is_ours() {
  std::array<char, 32> self{};
  const ssize_t length = ::readlink("/proc/self", self.data(), self.size());
  return length > 0 &&
         std::string_view(self.data(), static_cast<std::size_t>(length)) == std::to_string(::getpid());
}

}  // namespace

void ask_user_namespaces_of(std::function<std::optional<ino_t>(pid_t)> other) {
  namespace_reader() = std::move(other);
}

bool has_ended(BorrowedFd pidfd) {
  pollfd end{pidfd.get(), POLLIN, 0};
  return ::poll(&end, 1, 0) != 0;
}

Credentials parse_status(std::string_view status) {
  Credentials found;
  const std::string_view uids = value_of(status, "Uid");  // real, effective, saved, filesystem
  const std::size_t second = uids.find_first_of(" \t");
  if (second != std::string_view::npos)
    found.effective_uid = number_in<std::uint32_t>(uids.substr(second + 1), 10);
  found.effective = number_in<std::uint64_t>(value_of(status, "CapEff"), 16).value_or(0);
  found.bounding = number_in<std::uint64_t>(value_of(status, "CapBnd"), 16).value_or(0);
  found.pid_namespaces = words_in(value_of(status, "NSpid"));
  found.kernel_thread = value_of(status, "VmSize").empty();
  return found;
}

std::string why_powerless(const Credentials& peer, const Credentials& broker, const Credentials& init) {
  if (!peer.effective_uid || peer.pid_namespaces == 0 || broker.pid_namespaces == 0)
    return "the kernel does not show its process in /proc";
  if (*peer.effective_uid != 0) return "its process is not root any more";
  if (peer.kernel_thread) return "its process has no program";
  if (peer.pid_namespaces != broker.pid_namespaces)
    return "it lives in a pid namespace of its own, a container";
  const bool elsewhere =
      peer.user_namespace && broker.user_namespace && *peer.user_namespace != *broker.user_namespace;
  if (peer.id_maps.empty() || peer.id_maps != broker.id_maps || elsewhere)
    return "it lives in a user namespace of its own";
  const std::uint64_t needed = init.effective & init.bounding;
  if ((needed & kSysAdmin) == 0) return "the kernel does not show what process 1 may do";
  if ((peer.effective & needed) != needed) return "it lacks capabilities that the machine's root has";
  return "";
}

std::string why_powerless(pid_t pid, BorrowedFd pidfd) {
  if (pid <= 0) return "its process cannot be seen from the broker";
  if (!pidfd.valid()) return "its process has ended";
  if (!proc_is_ours()) return "/proc does not show the broker's own pid namespace";
  const std::string directory = "/proc/" + std::to_string(pid);
  Credentials peer = read_of(directory);
  if (namespace_reader()) peer.user_namespace = namespace_reader()(pid);
  if (has_ended(pidfd)) return "its process has ended";
  return why_powerless(peer, read_of("/proc/self"), read_of("/proc/1"));
}

}  // namespace mapcap::policy
