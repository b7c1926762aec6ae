// `mapcap dev`, whose standard input is a pipe of ours: that ends with us, and the command with it.
#include "mapcap/testing.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "client/raise.h"
#include "mapcap/fd.h"

namespace mapcap::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBetweenLooksMs = 100;

struct Pipe {
  Fd out;
  Fd in;
};

Pipe make_pipe() {
  int ends[2] = {};
  if (::pipe2(ends, O_CLOEXEC) != 0) raise(io_error("pipe2", errno));
  return {Fd(ends[0]), Fd(ends[1])};
}

/// Everything that comes until a newline, the end, or the deadline.
enum class Read { line, end, late };
Read read_line(BorrowedFd from, std::string& line, Clock::time_point until) {
  for (;;) {
    if (Clock::now() >= until) return Read::late;
    pollfd ready{from.get(), POLLIN, 0};
    const int polled = ::poll(&ready, 1, kBetweenLooksMs);
    if (polled == 0) continue;
    char byte = 0;
    const ssize_t got = polled > 0 ? ::read(from.get(), &byte, 1) : -1;
    if (got == 0) return Read::end;
    if (got < 0 && errno != EINTR && errno != EAGAIN) return Read::end;
    if (got < 0) continue;
    if (byte == '\n') return Read::line;
    line += byte;
  }
}

/// The tool's own sentence, as it put it behind its name.
std::string complaint(BorrowedFd errors, Clock::time_point until) {
  std::string line;
  std::string last = "it ended without a word";
  while (read_line(errors, line, until) == Read::line) last = std::exchange(line, {});
  constexpr std::string_view kName = "mapcap: ";
  return last.starts_with(kName) ? last.substr(kName.size()) : last;
}

std::string command_of(const PrivateBrokerOptions& options) {
  if (!options.command.empty()) return options.command;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): getenv races only with setenv, which the caller owns.
  const char* named = std::getenv("MAPCAP_COMMAND");
  return named != nullptr && *named != '\0' ? named : "mapcap";
}

/// In a process group of its own, so that ^C does not take the broker from a test that wants to finish.
pid_t spawn(const std::string& command, const Pipe& input, const Pipe& output, const Pipe& errors) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  if (const int failed = ::posix_spawn_file_actions_init(&files); failed != 0)
    raise(io_error("posix_spawn_file_actions_init", failed));
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&files, input.out.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&files, output.in.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&files, errors.in.get(), STDERR_FILENO);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::string name = command;
  std::string verb = "dev";
  std::array<char*, 3> arguments{name.data(), verb.data(), nullptr};
  pid_t child = -1;
  const int failed = ::posix_spawnp(&child, name.c_str(), &files, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  if (failed == ENOENT)
    throw Error(ErrorCode::not_found, command +
                                          " is not installed, which a private broker is started with; put it "
                                          "in PATH, or name it in the environment variable MAPCAP_COMMAND");
  if (failed != 0) raise(io_error("running " + command, failed));
  return child;
}

}  // namespace

class PrivateBroker::Implementation {
 public:
  explicit Implementation(const PrivateBrokerOptions& options) {
    const std::string command = command_of(options);
    Pipe input = make_pipe();
    Pipe output = make_pipe();
    Pipe errors = make_pipe();
    child_ = spawn(command, input, output, errors);
    process_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, child_, 0)));
    input.out.reset();
    output.in.reset();
    errors.in.reset();
    hold_ = std::move(input.in);
    output_ = std::move(output.out);
    errors_ = std::move(errors.out);
    const auto until = Clock::now() + options.start_within;
    const Read read = read_line(output_.borrow(), socket, until);
    if (read == Read::line) return;
    const std::string why = read == Read::end ? complaint(errors_.borrow(), until) : std::string();
    end();
    if (read == Read::end) throw Error(ErrorCode::unavailable, command + " dev: " + why);
    throw Error(ErrorCode::timed_out, command + " dev: it did not serve in time");
  }
  ~Implementation() { end(); }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;

  std::string socket;

 private:
  void end() {
    // A child of fork() that destroys its copy takes nothing from its parent.
    if (owner_ != ::getpid()) return;
    hold_.reset();
    // Children of this process that were forked meanwhile may still hold a copy.
    // SAFETY: no libc wrapper in glibc 2.35; a pidfd cannot hit a process that took the number over.
    if (!process_.valid() || ::syscall(SYS_pidfd_send_signal, process_.get(), SIGTERM, nullptr, 0) != 0)
      ::kill(child_, SIGTERM);
    // Its output ends with it; whoever waits for all children of this process may take its status first.
    std::string ignored;
    while (read_line(output_.borrow(), ignored, Clock::time_point::max()) == Read::line) {
    }
    while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  pid_t owner_ = ::getpid();
  pid_t child_ = -1;
  Fd process_;  ///< Its pidfd; invalid where there are none.
  Fd hold_;     ///< The command's standard input.
  Fd output_;
  Fd errors_;  ///< Kept, so that a late word of it does not end it.
};

PrivateBroker::PrivateBroker(PrivateBrokerOptions options)
    : implementation_(std::make_unique<Implementation>(options)) {}
PrivateBroker::~PrivateBroker() = default;
PrivateBroker::PrivateBroker(PrivateBroker&&) noexcept = default;
PrivateBroker& PrivateBroker::operator=(PrivateBroker&&) noexcept = default;

const std::string& PrivateBroker::socket() const {
  return implementation_->socket;
}

Client PrivateBroker::connect(ConnectOptions options) const {
  options.socket = socket();
  return Client::connect(std::move(options));
}

}  // namespace mapcap::testing
