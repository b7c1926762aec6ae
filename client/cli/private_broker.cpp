#include "client/cli/private_broker.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "client/cli/beside.h"
#include "client/cli/warden.h"
#include "client/raise.h"
#include "mapcap/client.h"

namespace mapcap::cli {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// A machine may be busy; a broker that starts takes a tenth of a second.
constexpr auto kStartPatience = 60s;
constexpr int kBetweenTriesMs = 5;

/// Every connection is the owner's, so there is nobody to allot anything to. Half of the memory is set aside
/// for nobody: it is taken as it is touched.
std::string policy_text(Confinement confinement) {
  return "# The policy of `mapcap dev`: a broker of one user's own.\n"
         "[broker]\n"
         "grace = \"1s\"\n"
         "max_connections_per_user = 4000\n\n"
         "[pool.dram]\n"
         "backing = \"memory\"\n"
         "capacity = \"50%\"\n"
         "confinement = \"" +
         std::string(to_string(confinement)) +
         "\"\n\n"
         "[[rule]]\n"
         "any = true\n\n"
         "[[rule]]\n"
         "uid = " +
         std::to_string(::geteuid()) +
         "\n"
         "verbs = [\"quota-set\", \"reload\", \"policy\"]\n";
}

std::string find_daemon() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): this program has one thread.
  if (const char* named = std::getenv("MAPCAP_DAEMON"); named != nullptr && *named != '\0') {
    struct stat status {};
    if (*named == '/' && ::stat(named, &status) == 0 && S_ISREG(status.st_mode) && ::access(named, X_OK) == 0)
      return named;
    throw Error(ErrorCode::not_found, "MAPCAP_DAEMON is \"" + std::string(named) +
                                          "\", which is not the absolute path of a program that you may run");
  }
  const auto found =
      find_beside("mapcapd", MAPCAP_DAEMON_FROM_PROGRAM, "../../broker", MAPCAP_DAEMON_INSTALLED);
  if (found) return *found;
  throw Error(ErrorCode::not_found, "mapcapd, which would be the broker, is not in " MAPCAP_DAEMON_INSTALLED
                                    ": install it, or name it in the environment variable MAPCAP_DAEMON");
}

std::string new_directory() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): this program has one thread.
  const char* named = std::getenv("TMPDIR");
  std::string parent = named != nullptr && *named == '/' ? named : "/tmp";
  constexpr std::string_view kLongest = "/mapcap-dev.XXXXXX/mapcap.sock";
  if (parent.size() + kLongest.size() >= sizeof(sockaddr_un{}.sun_path)) parent = "/tmp";
  std::string directory = parent + "/mapcap-dev.XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr)
    raise(io_error("making a directory in " + parent + " (TMPDIR names another place)", errno));
  return directory;
}

/// What the broker said last, without its name in front.
std::string last_line(const std::string& file) {
  std::ifstream in(file);
  std::string last = "it said nothing";
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) last = line;
  }
  constexpr std::string_view kName = "mapcapd: ";
  return last.starts_with(kName) ? last.substr(kName.size()) : last;
}

}  // namespace

PrivateBroker::PrivateBroker() {
  const std::string daemon = find_daemon();
  std::string no_clones = "the kernel makes clones for root only";
  if (::geteuid() == 0) {
    if (start(daemon, Confinement::clone)) return;
    no_clones = reason_;
  }
  if (!start(daemon, Confinement::sealed))
    throw Error(ErrorCode::unavailable, "the private broker did not start: " + reason_);
  reason_ = no_clones;
}

PrivateBroker::~PrivateBroker() {
  end();
}

bool PrivateBroker::start(const std::string& daemon, Confinement confinement) {
  confinement_ = confinement;
  reason_.clear();
  directory_ = new_directory();
  const std::string policy = directory_ + "/policy.toml";
  std::ofstream(policy) << policy_text(confinement);
  int ends[2] = {};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    const int error = errno;
    end();
    raise(io_error("socketpair", error));
  }
  warden_ = Fd(ends[0]);
  Fd theirs(ends[1]);
  try {
    warden_pid_ = start_warden(
        {daemon, "--private", "--policy", policy, "--socket", socket(), "--state", directory_ + "/state"},
        directory_, std::move(theirs));
    if (wait_until_served()) return true;
  } catch (...) {
    end();
    throw;
  }
  reason_ = last_line(directory_ + "/log");
  end();
  return false;
}

bool PrivateBroker::wait_until_served() {
  const auto until = std::chrono::steady_clock::now() + kStartPatience;
  ConnectOptions options;
  options.socket = socket();
  for (;;) {
    try {
      Client::connect(options);
      return true;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unavailable || std::chrono::steady_clock::now() > until) throw;
    }
    pollfd ended{warden_.get(), POLLIN, 0};
    if (::poll(&ended, 1, kBetweenTriesMs) > 0) return false;
  }
}

void PrivateBroker::end() {
  if (directory_.empty()) return;
  if (warden_.valid()) {
    ::shutdown(warden_.get(), SHUT_WR);
    // Its end of the socket closes when everything is done.
    char byte = 0;
    for (;;) {
      const ssize_t got = ::read(warden_.get(), &byte, 1);
      if (got == 0 || (got < 0 && errno != EINTR)) break;
    }
    warden_.reset();
    if (warden_pid_ > 0) ::waitpid(warden_pid_, nullptr, 0);
    warden_pid_ = -1;
  }
  std::error_code ignored;
  fs::remove_all(directory_, ignored);  // There only where the warden did not come to it.
  directory_.clear();
}

}  // namespace mapcap::cli
