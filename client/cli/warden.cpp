// Whatever dies, the broker goes. The owner dies: the warden sees its socket end. The warden dies: the kernel
// kills the broker (PR_SET_PDEATHSIG), and the owner removes the directory. The broker dies: its keeper, which
// was told to be private, ends with it. What the broker left running becomes the warden's child
// (PR_SET_CHILD_SUBREAPER), and is ended by it.
#include "client/cli/warden.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <system_error>
#include <thread>

#include "base/small_file.h"
#include "client/cli/execute.h"
#include "client/raise.h"

namespace mapcap::cli {
namespace {

using namespace std::chrono_literals;

/// How long what the broker started may take to end by itself, before it is killed too.
constexpr auto kGrace = 500ms;
/// A process that waits for its disk cannot be killed; nobody waits longer than this for it.
constexpr auto kPatience = 10s;

void default_signals() {
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

pid_t start_broker(const std::vector<std::string>& command) {
  const pid_t warden = ::getpid();
  const pid_t broker = ::fork();
  if (broker != 0) return broker;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != warden) ::_exit(1);  // It died before it could be watched.
  default_signals();
  ::unsetenv("NOTIFY_SOCKET");  // NOLINT(concurrency-mt-unsafe): one thread. Somebody else's service manager.
  std::fprintf(stderr, "%s\n", not_run(command.front(), execute(command)).what());
  ::_exit(127);
}

void kill_children() {
  const std::string self = std::to_string(::getpid());
  std::istringstream children(contents_of("/proc/self/task/" + self + "/children"));
  for (pid_t child = 0; children >> child;) ::kill(child, SIGKILL);
}

/// Until no child is left.
void reap() {
  const auto began = std::chrono::steady_clock::now();
  for (;;) {
    const pid_t ended = ::waitpid(-1, nullptr, WNOHANG);
    if (ended > 0 || (ended < 0 && errno == EINTR)) continue;
    if (ended < 0) return;
    const auto waited = std::chrono::steady_clock::now() - began;
    if (waited > kPatience) return;
    if (waited > kGrace) kill_children();
    std::this_thread::sleep_for(1ms);
  }
}

[[noreturn]] void guard(const std::vector<std::string>& command, const std::string& directory, Fd owner) {
  ::setsid();
  ::prctl(PR_SET_NAME, "mapcap-warden");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  // What ends its owner is for the owner to act upon; this process sees that by the socket.
  for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE}) ::signal(number, SIG_IGN);
  // Nobody waits for the end of a pipe because this process has it open.
  const int log = ::open((directory + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(log >= 0 ? log : null, STDOUT_FILENO);
  ::dup2(log >= 0 ? log : null, STDERR_FILENO);
  constexpr int kOwner = STDERR_FILENO + 1;
  if (owner.get() != kOwner) ::dup3(owner.release(), kOwner, O_CLOEXEC);
  ::close_range(kOwner + 1, ~0U, 0);
  [[maybe_unused]] const int moved = ::chdir("/");

  const pid_t broker = start_broker(command);
  // SAFETY: no libc wrapper in glibc 2.35; takes a pid and flags, returns a descriptor.
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, broker, 0)));
  pollfd watched[2] = {{kOwner, POLLIN, 0}, {process.get(), POLLIN, 0}};
  while (::poll(watched, 2, -1) < 0 && errno == EINTR) {
  }
  if (broker > 0) ::kill(broker, SIGKILL);
  reap();
  if (watched[0].revents == 0) {
    [[maybe_unused]] const ssize_t told = ::write(kOwner, &kBrokerEnded, 1);
    while (::poll(watched, 1, -1) < 0 && errno == EINTR) {
    }
  }
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  ::_exit(0);
}

}  // namespace

pid_t start_warden(const std::vector<std::string>& command, const std::string& directory, Fd owner) {
  const pid_t warden = ::fork();
  if (warden == 0) guard(command, directory, std::move(owner));
  if (warden < 0) raise(io_error("fork of the private broker's warden", errno));
  return warden;
}

}  // namespace mapcap::cli
