#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace mapcap::test {

using namespace std::chrono_literals;

namespace {

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

template <typename Visit>
void for_each_process(Visit visit) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos) visit(static_cast<pid_t>(std::stol(name)));
  }
}

void become(uid_t uid) {
  if (uid == 0) return;
  const bool done =
      ::setgroups(0, nullptr) == 0 && ::setresgid(uid, uid, uid) == 0 && ::setresuid(uid, uid, uid) == 0;
  if (!done) ::_exit(126);
}

}  // namespace

std::string open_policy(const std::string& extra, const std::string& pool_keys) {
  return R"([broker]
grace = "1s"
max_connections_per_user = 1000
[pool.dram]
backing = "memory"
capacity = "2G"
)" + pool_keys +
         R"(
[[rule]]
any = true
names = ["**"]
[[rule]]
any = true
verbs = ["pools", "quota", "clone"]
[[rule]]
user = 0
[[rule]]
user = 0
verbs = ["shutdown"]
)" + extra;
}

BrokerProcess::BrokerProcess(std::string policy, const std::string& parent) : policy_(std::move(policy)) {
  std::string pattern = parent + "/mapcap-test.XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "mkdtemp in " << parent;
  directory_ = pattern;
  ::chmod(directory_.c_str(), 0755);
  state_ = directory_ + "/state";
  socket_ = directory_ + "/socket";
  set_policy(policy_);
}

BrokerProcess::~BrokerProcess() {
  if (broker_ > 0) kill_broker();
  (void)comes_true([this] {
    kill_keeper();
    return keeper_pid() == 0;
  });
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void BrokerProcess::set_policy(const std::string& text) const {
  std::ofstream(directory_ + "/policy.toml") << text;
  ::chmod((directory_ + "/policy.toml").c_str(), 0644);
}

void BrokerProcess::start() {
  const Start started = launch();
  if (started == Start::ended) ADD_FAILURE() << "mapcapd ended at start: " << log();
  if (started == Start::silent) ADD_FAILURE() << "mapcapd does not answer: " << log();
}

bool BrokerProcess::start_if_it_lives() {
  const Start started = launch();
  if (started == Start::silent) ADD_FAILURE() << "mapcapd does not answer: " << log();
  return started == Start::serves;
}

bool BrokerProcess::await_end() {
  if (broker_ <= 0) return true;
  if (!comes_true([this] { return ::waitpid(broker_, nullptr, WNOHANG) == broker_; })) return false;
  broker_ = 0;
  return true;
}

BrokerProcess::Start BrokerProcess::launch() {
  std::vector<std::string> arguments{program_.empty() ? MAPCAPD_PATH : program_,
                                     "--policy",
                                     directory_ + "/policy.toml",
                                     "--socket",
                                     socket_,
                                     "--state",
                                     state_};
  std::vector<char*> argv = pointers(arguments);
  const int log = ::open((directory_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  broker_ = ::fork();
  if (broker_ == 0) {
    ::dup2(log, STDERR_FILENO);
    ::dup2(log, STDOUT_FILENO);
    for (std::string& variable : environment_) ::putenv(variable.data());
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(log);
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < until) {
    try {
      ConnectOptions options;
      options.socket = socket_;
      options.deadline = 2s;
      options.reconnect_within = 0ms;
      Client probe = Client::connect(options);
      return Start::serves;
    } catch (const Error&) {
      int status = 0;
      if (::waitpid(broker_, &status, WNOHANG) == broker_) {
        broker_ = 0;
        return Start::ended;
      }
      std::this_thread::sleep_for(5ms);
    }
  }
  return Start::silent;
}

void BrokerProcess::kill_broker() {
  if (broker_ <= 0) return;
  ::kill(broker_, SIGKILL);
  ::waitpid(broker_, nullptr, 0);
  broker_ = 0;
}

void BrokerProcess::kill_keeper() {
  const pid_t keeper = keeper_pid();
  if (keeper > 0) ::kill(keeper, SIGKILL);
}

void BrokerProcess::kill_both() {
  kill_broker();
  EXPECT_TRUE(comes_true([this] {
    kill_keeper();
    return keeper_pid() == 0;
  }));
}

int BrokerProcess::terminate() {
  ::kill(broker_, SIGTERM);
  int status = 0;
  ::waitpid(broker_, &status, 0);
  broker_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void BrokerProcess::signal(int number) const {
  ::kill(broker_, number);
}

pid_t BrokerProcess::keeper_pid() const {
  pid_t found = 0;
  for_each_process([&](pid_t pid) {
    if (pid == broker_ || pid == ::getpid()) return;
    const std::string base = "/proc/" + std::to_string(pid);
    const std::string command = read_all(base + "/cmdline");
    if (command.find(state_) == std::string::npos || command.find("mapcapd") == std::string::npos) return;
    // A zombie is no keeper; neither is the broker's short-lived child.
    const std::string name = read_all(base + "/comm");
    if (name.starts_with("mapcapd-keeper") &&
        read_all(base + "/status").find("State:\tZ") == std::string::npos)
      found = pid;
  });
  return found;
}

std::string BrokerProcess::log() const {
  return read_all(directory_ + "/log");
}

ConnectOptions BrokerProcess::patient() {
  ConnectOptions options;
  options.deadline = options.reconnect_within = kPatience;
  return options;
}

Client BrokerProcess::connect(ConnectOptions options) const {
  options.socket = socket_;
  return Client::connect(std::move(options));
}

int as_user(uid_t uid, const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    become(uid);
    int status = 125;
    try {
      status = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "as_user: %s\n", error.what());
    }
    std::fflush(nullptr);
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

CommandResult run_command(const std::vector<std::string>& command,
                          const std::vector<std::string>& environment, uid_t uid) {
  std::string scratch = "/tmp/mapcap-run.XXXXXX";
  if (::mkdtemp(scratch.data()) == nullptr) return {};
  std::vector<std::string> words = command;
  std::vector<std::string> variables = environment;
  std::vector<char*> argv = pointers(words);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(::open((scratch + "/out").c_str(), O_WRONLY | O_CREAT, 0644), STDOUT_FILENO);
    ::dup2(::open((scratch + "/err").c_str(), O_WRONLY | O_CREAT, 0644), STDERR_FILENO);
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    ::close_range(3, ~0U, 0);
    for (std::string& variable : variables) ::putenv(variable.data());
    become(uid);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CommandResult result;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = read_all(scratch + "/out");
  result.err = read_all(scratch + "/err");
  std::filesystem::remove_all(scratch);
  return result;
}

CommandResult mapcap(const BrokerProcess& broker, std::vector<std::string> arguments, uid_t uid) {
  arguments.insert(arguments.begin(), MAPCAP_PATH);
  return run_command(arguments, {"MAPCAP_SOCKET=" + broker.socket()}, uid);
}

std::vector<pid_t> stuck_processes() {
  auto in_uninterruptible_sleep = [](pid_t pid) {
    return read_all("/proc/" + std::to_string(pid) + "/status").find("State:\tD") != std::string::npos;
  };
  std::vector<pid_t> suspects;
  for_each_process([&](pid_t pid) {
    const std::string command = read_all("/proc/" + std::to_string(pid) + "/cmdline");
    const bool ours = command.find("mapcap") != std::string::npos;
    if (ours && in_uninterruptible_sleep(pid)) suspects.push_back(pid);
  });
  // Anybody may sleep so for the moment that a page takes to be written; stuck is who does for ever.
  (void)comes_true([&] {
    std::erase_if(suspects, [&](pid_t pid) { return !in_uninterruptible_sleep(pid); });
    return suspects.empty();
  });
  return suspects;
}

}  // namespace mapcap::test
