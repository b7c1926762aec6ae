// A real mapcapd in a directory of the test's own: started, killed, started again.
#pragma once

#include <mapcap/mapcap.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/programs.h"

namespace mapcap::test {

/// Everybody may do everything with any name; one DRAM pool of 2 GiB called dram.
std::string open_policy(const std::string& extra = "", const std::string& pool_keys = "");

class BrokerProcess {
 public:
  /// Starts nothing yet. `policy` is the text of the policy file. `parent`: where the state directory is
  /// made.
  explicit BrokerProcess(std::string policy = open_policy(), const std::string& parent = "/tmp");
  /// Ends broker and keeper and removes the directory.
  ~BrokerProcess();
  BrokerProcess(const BrokerProcess&) = delete;
  BrokerProcess& operator=(const BrokerProcess&) = delete;

  /// Starts the broker and waits until it answers. Fails the test when it does not.
  void start();
  /// The same for a broker that may end on its way: false when it did.
  bool start_if_it_lives();
  /// Waits until the broker has ended by itself, and reaps it. False when it does not.
  bool await_end();
  /// kill -9, and reaps.
  void kill_broker();
  void kill_keeper();
  /// Both, the broker first: it would replace its keeper within milliseconds. Returns when they are gone.
  void kill_both();
  /// SIGTERM; returns the exit status.
  int terminate();
  void signal(int number) const;

  [[nodiscard]] pid_t pid() const { return broker_; }
  /// The process that serves this state directory's clones; 0 when there is none.
  [[nodiscard]] pid_t keeper_pid() const;
  [[nodiscard]] const std::string& socket() const { return socket_; }
  [[nodiscard]] const std::string& state() const { return state_; }
  /// Where socket, policy and log lie; every user may search it.
  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] std::string log() const;
  void set_policy(const std::string& text) const;
  /// Another program than mapcapd, from the next start on.
  void set_program(std::string path) { program_ = std::move(path); }
  /// Extra environment for the next start: "NAME=value".
  void set_environment(std::vector<std::string> environment) { environment_ = std::move(environment); }

  /// A client that reconnects, and waits as long as the test does.
  [[nodiscard]] Client connect(ConnectOptions options = patient()) const;
  static ConnectOptions patient();

 private:
  enum class Start { serves, ended, silent };
  Start launch();

  std::string directory_;
  std::string state_;
  std::string socket_;
  std::string policy_;
  std::vector<std::string> environment_;
  std::string program_;  ///< Empty: mapcapd.
  pid_t broker_ = 0;
};

/// Runs `body` in a child as this uid and gid, without groups and capabilities; returns its exit status, or
/// 128 + the signal that ended it. The child ends with body's value.
int as_user(uid_t uid, const std::function<int()>& body);

/// Runs the mapcap command line tool; returns its exit status, output in `out` and `err`.
struct CommandResult {
  int status = -1;
  std::string out;
  std::string err;
};
CommandResult mapcap(const BrokerProcess& broker, std::vector<std::string> arguments, uid_t uid = 0);
CommandResult run_command(const std::vector<std::string>& command,
                          const std::vector<std::string>& environment = {}, uid_t uid = 0);

/// Processes of this project that stay in uninterruptible sleep.
std::vector<pid_t> stuck_processes();

}  // namespace mapcap::test
