// dev: a program with a broker of its own, or that broker alone.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <optional>

#include "client/cli/commands.h"
#include "client/cli/execute.h"
#include "client/cli/json.h"
#include "client/cli/private_broker.h"
#include "client/raise.h"

namespace mapcap::cli {
namespace {

// Of those that ask a program to end or to do something: passed on to ours, which then ends, or does.
constexpr std::array kPassedOn{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

volatile sig_atomic_t program_ = 0;

void pass_on(int number, siginfo_t* from, void*) {
  const int error = errno;
  // What the terminal sends, it sends to the program too.
  if (from->si_code != SI_KERNEL) ::kill(static_cast<pid_t>(program_), number);
  errno = error;
}

/// Forks, and tells by a descriptor that closes on exec whether there was one.
void start(const std::vector<std::string>& program) {
  int pipe[2] = {};
  if (::pipe2(pipe, O_CLOEXEC) != 0) raise(io_error("pipe2", errno));
  const Fd result(pipe[0]);
  Fd failure(pipe[1]);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t self = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    // As if it had taken our place: what kills us kills it.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != self) ::_exit(1);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    const int error = execute(program);
    [[maybe_unused]] const ssize_t told = ::write(failure.get(), &error, sizeof error);
    ::_exit(127);
  }
  const int failed = errno;
  program_ = child;
  if (child > 0) {
    struct sigaction action {};
    action.sa_sigaction = pass_on;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    for (const int number : kPassedOn) ::sigaction(number, &action, nullptr);
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) raise(io_error("fork", failed));
  failure.reset();
  int error = 0;
  if (::read(result.get(), &error, sizeof error) != static_cast<ssize_t>(sizeof error)) return;
  ::waitpid(child, nullptr, 0);
  throw not_run(program.front(), error);
}

/// What waitpid(2) says of the program.
int run(const std::vector<std::string>& program) {
  start(program);
  int status = 0;
  while (::waitpid(static_cast<pid_t>(program_), &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

/// Ends as the program did.
int end_like(int status) {
  if (!WIFSIGNALED(status)) return WEXITSTATUS(status);
  const int number = WTERMSIG(status);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::signal(number, SIG_DFL);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, number);
  ::sigprocmask(SIG_UNBLOCK, &only, nullptr);
  ::raise(number);
  return 128 + number;  // Process 1 of a container does not die of its own signals.
}

/// A reader at the other end, whose end should be ours.
bool is_pipe(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}

sigset_t block_ends() {
  sigset_t ends;
  sigemptyset(&ends);
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) sigaddset(&ends, number);
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
  return ends;
}

/// Until SIGINT, SIGTERM or SIGHUP, or until nobody can write to the pipe any more that standard input is.
void stay(const PrivateBroker& broker, const sigset_t& ends) {
  const Fd signals(::signalfd(-1, &ends, SFD_CLOEXEC));
  if (!signals.valid()) raise(io_error("signalfd", errno));
  std::array<pollfd, 3> watched = {{{signals.get(), POLLIN, 0},
                                    {broker.ended_fd(), POLLIN, 0},
                                    {is_pipe(STDIN_FILENO) ? STDIN_FILENO : -1, POLLIN, 0}}};
  for (;;) {
    if (::poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) raise(io_error("poll", errno));
    if (watched[0].revents != 0) return;
    if (watched[1].revents != 0)
      throw Error(ErrorCode::unavailable, "the private broker has ended, although nobody asked it to");
    std::array<char, 256> unread{};
    if (watched[2].revents != 0 && ::read(STDIN_FILENO, unread.data(), unread.size()) <= 0) return;
  }
}

void tell(const PrivateBroker& broker) {
  std::cerr
      << "mapcap: a private broker, gone with "
      << (broker.confinement() == Confinement::clone
              ? "this command; its grants are clones, which can be mmapped and nothing else\n"
              : "this command; its grants are plain sealed descriptors, with which holders can do more than "
                "mmap (" +
                    broker.reason() + ")\n");
}

std::optional<std::string> shell() {
  if (::isatty(STDIN_FILENO) == 0 || ::isatty(STDOUT_FILENO) == 0) return std::nullopt;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): this program has one thread.
  const char* named = std::getenv("SHELL");
  return named != nullptr && *named != '\0' ? named : "/bin/sh";
}

}  // namespace

int perform(const Common& common, const DevCommand& command) {
  std::vector<std::string> program = command.program;
  if (program.empty()) {
    if (const auto named = shell(); named && !common.json) program = {*named};
  }
  if (program.empty()) {
    const sigset_t ends = block_ends();
    const PrivateBroker broker;
    tell(broker);
    if (common.json) {
      std::cout << json_object({{"socket", broker.socket()},
                                {"confinement", std::string(to_string(broker.confinement()))}})
                << std::endl;
    } else {
      std::cout << broker.socket() << std::endl;
    }
    stay(broker, ends);
    return 0;
  }
  int status = 0;
  {
    const PrivateBroker broker;
    tell(broker);
    ::setenv("MAPCAP_SOCKET", broker.socket().c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    status = run(program);
  }
  return end_like(status);
}

}  // namespace mapcap::cli
