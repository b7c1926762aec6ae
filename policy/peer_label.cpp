#include "policy/peer_label.h"

#include <sys/socket.h>

#include <algorithm>
#include <charconv>

#include "base/newer_linux.h"
#include "base/pieces.h"
#include "base/small_file.h"
#include "base/text.h"
#include "policy/power.h"

namespace mapcap::policy {
namespace {

constexpr std::size_t kIdDigits = 64;  // of every engine's container ids
constexpr std::size_t kShownDigits = 12;

/// The first kShownDigits of 64 hexadecimal digits with nothing like them around: docker-ID.scope, /docker/ID,
/// cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope.
std::string_view container_id(std::string_view component) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (std::size_t i = 0; i < component.size();) {
    const std::size_t first = component.find_first_of(kDigits, i);
    if (first == std::string_view::npos) return {};
    const std::size_t end = std::min(component.find_first_not_of(kDigits, first), component.size());
    if (end - first == kIdDigits) return component.substr(first, kShownDigits);
    i = end;
  }
  return {};
}

/// Of the text of /proc/PID/stat: its flags are the ninth field, and the second may have anything in it.
bool is_ending(std::string_view stat) {
  constexpr unsigned kExiting = 0x4;  // PF_EXITING
  const std::size_t name_ends = stat.rfind(") ");
  if (name_ends == std::string_view::npos) return true;
  stat.remove_prefix(name_ends + 2);
  for (int field = 3; field < 9; ++field) (void)take_until(' ', stat);
  const std::string_view flags = take_until(' ', stat);
  unsigned value = kExiting;
  (void)std::from_chars(flags.data(), flags.data() + flags.size(), value);
  return (value & kExiting) != 0;
}

}  // namespace

std::string cgroup_in(std::string_view text) {
  std::string_view unified;
  std::string_view of_systemd;
  while (!text.empty()) {
    std::string_view line = take_until('\n', text);
    const std::string_view hierarchy = take_until(':', line);
    const std::string_view controllers = take_until(':', line);
    constexpr std::string_view kRemoved = " (deleted)";  // It has ended; threads of it may not have.
    if (line.ends_with(kRemoved)) line.remove_suffix(kRemoved.size());
    if (hierarchy == "0" && controllers.empty()) unified = line;
    if (controllers == "name=systemd") of_systemd = line;
  }
  if (unified.size() > 1) return std::string(unified);
  return std::string(of_systemd.empty() ? unified : of_systemd);
}

namespace {

bool ask_kernel() {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
  const Fd here(ends[0]);
  const Fd there(ends[1]);
  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  const bool told = ::getsockopt(here.get(), SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0;
  const Fd peer(pidfd);
  return told;
}

}  // namespace

bool kernel_tells_cgroups() {
  static const bool told = ask_kernel();
  return told;
}

void name_cgroup(PeerLabel& label) {
  std::string_view rest = label.cgroup;
  while (!rest.empty()) {
    const std::string_view component = take_until('/', rest);
    if (const std::string_view id = container_id(component); !id.empty()) {
      label.container = id;
    } else if (component.ends_with(".service") || component.ends_with(".scope")) {
      label.unit = component;
    }
  }
}

std::string_view bare_cgroup(const PeerLabel& label) {
  if (!label.unit.empty() || !label.container.empty() || label.cgroup == "/") return {};
  return label.cgroup;
}

std::string in_its_place(const PeerLabel& label) {
  constexpr std::size_t kMost = 128;
  if (!label.container.empty()) return " in container " + presentable(label.container, kMost);
  if (!label.unit.empty()) return " in unit " + presentable(label.unit, kMost);
  const std::string_view cgroup = bare_cgroup(label);
  return cgroup.empty() ? "" : " in cgroup " + presentable(cgroup, kMost);
}

PeerLabel label_of(pid_t pid, BorrowedFd pidfd) {
  if (pid <= 0 || !pidfd.valid()) return {};
  const std::string directory = "/proc/" + std::to_string(pid);
  PeerLabel label;
  label.program =
      contents_of(directory + "/comm");  // May have any byte in it but NUL, and ends with a newline.
  if (label.program.ends_with('\n')) label.program.pop_back();
  label.cgroup = cgroup_in(contents_of(directory + "/cgroup"));
  // Hierarchies before the unified one show whoever ends in the root, and the first thread may long before the others.
  if (label.cgroup == "/" && is_ending(contents_of(directory + "/stat"))) label.cgroup.clear();
  if (has_ended(pidfd)) return {};
  name_cgroup(label);
  return label;
}

}  // namespace mapcap::policy
