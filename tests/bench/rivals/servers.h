// The servers of all ways, on one processor and with the same priority, and what they are reached by.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/bench/rivals/sessions.h"
#include "tests/bench/rivals/way.h"
#include "tests/support/broker_process.h"

namespace mapcap::bench {

/// What is left out, and why.
struct Missing {
  std::string way;
  std::string reason;
};

class Servers {
 public:
  /// All that can be had here. `cpu`: of all of them.
  explicit Servers(int cpu);
  Servers(const Servers&) = delete;
  Servers& operator=(const Servers&) = delete;
  /// Ends them, and removes what they had.
  ~Servers();

  /// The first one is the floor.
  [[nodiscard]] const std::vector<Way>& ways() const { return ways_; }
  /// mapcap's, by way and pool.
  struct Kind {
    std::string way;
    Brokered from;
  };
  [[nodiscard]] const std::vector<Kind>& brokered() const { return brokered_; }
  [[nodiscard]] const std::vector<Missing>& missing() const { return missing_; }

 private:
  void add_floor();
  void add_buses();
  void add_shm();
  void add_mapcap();
  pid_t start(const std::function<void()>& serve);
  void end_broker();
  void end_children();

  std::string directory_;
  std::vector<std::string> pool_directories_;
  std::vector<pid_t> children_;
  std::unique_ptr<test::BrokerProcess> broker_;
  std::vector<Way> ways_;
  std::vector<Kind> brokered_;
  std::vector<Missing> missing_;
};

}  // namespace mapcap::bench
