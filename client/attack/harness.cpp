// Runs the table: each attempt as a stranger, in a process of its own, under a deadline, with the witness
// asked after it what really happened.
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include "client/attack/attack.h"
#include "client/attack/operation.h"
#include "client/attack/witness.h"

namespace mapcap::attack {
namespace {

// What the attempt's process leaves behind, in memory that it shares with the harness.
struct Report {
  bool written;
  Seen seen;
  int error;
  char note[200];
};

Report* g_report = nullptr;  // the one global: expect_replacement is called from deep within an attempt

void write_report(const Attempt& attempt) {
  g_report->seen = attempt.seen;
  g_report->error = attempt.error;
  std::snprintf(g_report->note, sizeof g_report->note, "%s", attempt.note.c_str());
  g_report->written = true;
}

bool write_file(const char* path, std::string_view text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool whole = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  return whole;
}

// Gives up everything that root had. Aborts the attempt rather than go on with more than a stranger has.
void become_stranger(const Options& options) {
  if (geteuid() == 0) {
    if (setgroups(0, nullptr) != 0 || setresgid(options.gid, options.gid, options.gid) != 0 ||
        setresuid(options.uid, options.uid, options.uid) != 0) {
      _exit(120);
    }
  }
  // A change of ids makes a process undumpable, which hides its own /proc/self/fd from it: a holder that was
  // started under its uid has no such handicap.
  prctl(PR_SET_DUMPABLE, 1);
}

bool enter_own_namespace() {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  return write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1") &&
         write_file("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1");
}

[[noreturn]] void attempt_in_child(const Operation& operation, const Context& context, const Options& options,
                                   const std::string& scratch) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  for (const int number : {SIGBUS, SIGSEGV, SIGPIPE, SIGXFSZ}) signal(number, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  become_stranger(options);
  if (chdir(scratch.c_str()) != 0) _exit(121);
  if (operation.where == Where::own_namespace && !enter_own_namespace()) {
    write_report(unsupported("no user namespaces for unprivileged users here"));
    _exit(0);
  }
  write_report(operation.attempt(context));
  _exit(0);
}

// Waits until the child has ended, or kills it at the deadline. Empty: it hung.
std::optional<int> reap(pid_t pid, std::chrono::milliseconds patience) {
  const auto wait_for = [pid](std::chrono::milliseconds time) -> std::optional<int> {
    // SAFETY: pidfd_open takes a pid and flags; 434 everywhere.
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    if (pidfd >= 0) {
      pollfd waiting{pidfd, POLLIN, 0};
      (void)poll(&waiting, 1, static_cast<int>(time.count()));
      close(pidfd);
    }
    int status = 0;
    if (waitpid(pid, &status, pidfd >= 0 ? WNOHANG : 0) == pid) return status;
    return std::nullopt;
  };
  const std::optional<int> status = wait_for(patience);
  // Also ends what the attempt started: they share its process group.
  kill(-pid, SIGKILL);
  if (!status) {
    kill(pid, SIGKILL);
    (void)wait_for(std::chrono::milliseconds(2000));
  }
  return status;
}

Expected expectation(Rule rule, const Target& target) {
  const bool writable = target.rights == Access::read_write;
  switch (rule) {
    case Rule::refused:
      return Expected::refused;
    case Rule::allowed:
      return Expected::allowed;
    case Rule::allowed_rw:
      return writable ? Expected::allowed : Expected::refused;
    case Rule::tolerated_rw:
      return writable ? Expected::harmless : Expected::refused;
    case Rule::harmless:
      return Expected::harmless;
    case Rule::private_inode:
      return target.confinement == Confinement::clone || target.confinement == Confinement::native
                 ? Expected::harmless
                 : Expected::refused;
    case Rule::node_times:
      return target.confinement == Confinement::native ? Expected::harmless : Expected::refused;
  }
  std::abort();
}

// May this rule, with these rights, change the region's bytes?
bool may_store(Rule rule, const Target& target) {
  return target.rights == Access::read_write && (rule == Rule::allowed_rw || rule == Rule::tolerated_rw);
}

Outcome judge(const Operation& operation, const Target& target, const std::optional<int>& status,
              const Report& report, const Witness::Change& change) {
  Outcome outcome{.family = operation.family,
                  .operation = operation.name,
                  .expected = expectation(operation.rule, target),
                  .seen = Seen::inconclusive,
                  .error = 0,
                  .note = {},
                  .damage = {}};
  if (!status) {
    outcome.note = "hung and was killed";
  } else if (!report.written && WIFSIGNALED(*status)) {
    const char* signal_name = sigdescr_np(WTERMSIG(*status));
    outcome.note = std::string("died of ") + (signal_name != nullptr ? signal_name : "a signal");
  } else if (!report.written) {
    outcome.note = "ended with status " + std::to_string(WEXITSTATUS(*status)) + " before it was done";
  } else {
    outcome.seen = report.seen;
    outcome.error = report.error;
    outcome.note = report.note;
  }
  if (operation.evidence == Evidence::change && outcome.seen == Seen::allowed && !change.any()) {
    outcome.seen = Seen::refused;
    outcome.note =
        outcome.note.empty() ? "answered success, changed nothing" : outcome.note + ", changed nothing";
  }
  if (change.any()) {
    outcome.seen = Seen::allowed;
    if (change.contents && !may_store(operation.rule, target)) outcome.damage = "contents changed";
    if (!change.other.empty()) outcome.damage += (outcome.damage.empty() ? "" : "; ") + change.other;
  }
  return outcome;
}

Outcome left_out(const Operation& operation, const Target& target) {
  return {.family = operation.family,
          .operation = operation.name,
          .expected = expectation(operation.rule, target),
          .seen = Seen::left_out,
          .error = 0,
          .note = {},
          .damage = {}};
}

// A directory that the stranger may write, gone at the end.
class Scratch {
 public:
  explicit Scratch(const Options& options) {
    std::string name = (std::filesystem::temp_directory_path() / "mapcap-attack-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) return;
    path_ = name;
    if (geteuid() == 0) (void)chown(path_.c_str(), options.uid, options.gid);
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

void expect_replacement(std::string_view note) {
  write_report(allowed(std::string(note)));
}

std::vector<Outcome> run(const Target& target, const Options& options) {
  return run(target, options, all_operations());
}

std::vector<Outcome> run(const Target& target, const Options& options,
                         const std::vector<Operation>& operations) {
  // SAFETY: anonymous and shared, so that a child can report; unmapped below.
  void* shared = mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return {};
  g_report = static_cast<Report*>(shared);

  std::vector<Outcome> outcomes;
  {
    const Scratch scratch(options);
    Witness witness(target);
    const Context context{.fd = target.fd,
                          .rights = target.rights,
                          .size = target.size,
                          .confinement = target.confinement,
                          .page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE)),
                          .contents = witness.contents()};
    for (const Operation& operation : operations) {
      const std::string title = operation.family + "/" + operation.name;
      if (title.find(options.only) == std::string::npos) continue;
      if (title == options.except) {
        outcomes.push_back(left_out(operation, target));
        continue;
      }
      *g_report = {};
      std::fflush(nullptr);
      const pid_t pid = fork();
      if (pid == 0) attempt_in_child(operation, context, options, scratch.path());
      const std::optional<int> status = pid > 0 ? reap(pid, options.patience) : std::nullopt;
      const Witness::Change change = witness.observe();
      outcomes.push_back(judge(operation, target, status, *g_report, change));
      witness.restore(change);
      if (options.on_outcome) options.on_outcome(outcomes.back());
    }
  }
  munmap(shared, sizeof(Report));
  g_report = nullptr;
  return outcomes;
}

}  // namespace mapcap::attack
