// Client processes that do the same at the same time, and wait without a sound in between.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <vector>

#include "mapcap/fd.h"
#include "tests/bench/rivals/way.h"

namespace mapcap::bench {

struct Slot {
  std::size_t way = 0;
  Verb verb = Verb::show;
  int cpu = 0;  ///< Of all clients.
  std::chrono::nanoseconds length{0};
  std::uint32_t at_most = UINT32_MAX;  ///< Operations of each client.
};

/// Of all clients together.
struct Outcome {
  std::uint64_t operations = 0;
  double per_second = 0;
  double p50 = 0;  ///< Microseconds, as the others.
  double p99 = 0;
  double longest = 0;
};

class Crowd {
 public:
  /// The first is root, every other one a user of his own. `ways` must outlive it; each client connects to
  /// all of them, when it first needs to. `promptly`: they run in
  /// short slices and at nice -10, as mapcapd does.
  Crowd(int clients, const std::vector<Way>& ways, bool promptly);
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;
  /// Ends them.
  ~Crowd();

  /// Throws what a client failed with.
  Outcome run(const Slot& slot);

 private:
  struct Member {
    pid_t pid = 0;
    Fd orders;
  };
  [[noreturn]] void live(int number, int orders) const;

  const std::vector<Way>& ways_;
  bool promptly_;
  std::vector<Member> members_;
  float* waits_;  ///< kMostWaits of each member, in memory that all of them share.
};

/// 0: the calling thread.
void pin(pid_t process, int cpu);

}  // namespace mapcap::bench
