// Promise 12 in figures: what a well-behaved client waits for while somebody else attacks, beside the same
// client alone and beside a neighbour who only computes, in the same run; and what the attack costs the
// broker in memory.
//
// What a client waits for has two parts, which no figure of one arrangement tells apart: the broker's, and
// the kernel's, which shares the processor among everybody who wants it, the client and the attackers
// included. So each attack is measured in three placements:
//
//     ahead    everybody on one processor; the client at nice -10, as broker and keeper are: what is left of
//              the kernel's part is small, and what the broker lets an attacker cost others shows
//     apart    the attackers have another processor, from where they reach the broker at full speed
//     equal    everybody on one processor; the client at nice 0, like the attackers
//
// The neighbour never speaks to the broker: no broker can make it cost less. Before the attacks stands what
// it costs those who have no broker either: a bare echo over a socket pair, between two processes as plain as
// can be.
//
//     hostile_bench [--cpu N] [--other-cpu N] [--rounds N] [--operations N] [--wait] [ATTACK]
//
// --wait: a flooder whose socket is full waits until it takes more, instead of trying on and so being a
// computing neighbour as well. Defaults: 0, 1, 5 rounds of 300 operations, all attacks, trying on. Rounds
// alone, beside the neighbour and attacked alternate; a line tells the median over the rounds of p50 and p99,
// and how many times its p99 alone, and beside the neighbour, a client's p99 under the attack is.
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "mapcap/fd.h"
#include "tests/bench/measure.h"
#include "tests/support/attackers.h"

namespace mapcap::test {
namespace {

using bench::median;
using Clock = std::chrono::steady_clock;

struct Options {
  int cpu = 0;
  int other_cpu = 1;
  int rounds = 5;
  int operations = 300;
  std::string attack;  ///< Empty: all.
  WhenFull when_full = WhenFull::try_on;
};

enum class Placement : std::uint8_t { ahead, apart, equal };
constexpr std::array kPlacements{Placement::ahead, Placement::apart, Placement::equal};
const char* to_string(Placement placement) {
  constexpr std::array kNames{"ahead", "apart", "equal"};
  return kNames.at(static_cast<std::size_t>(placement));
}

/// `process`: 0 for the calling thread.
void pin(pid_t process, int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(cpu), &one);
  if (::sched_setaffinity(process, sizeof one, &one) != 0) std::perror("sched_setaffinity");
}

void renice(int nice) {
  if (::setpriority(PRIO_PROCESS, 0, nice) != 0) std::perror("setpriority");
}

/// p50 and p99 of each round, in microseconds.
struct Waits {
  std::vector<double> p50;
  std::vector<double> p99;

  void measure(int operations, const std::function<void()>& operation) {
    std::vector<double> waits;
    for (int i = 0; i < operations; ++i) {
      const auto begin = Clock::now();
      operation();
      waits.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    }
    std::sort(waits.begin(), waits.end());
    p50.push_back(bench::quantile(waits, 0.5));
    p99.push_back(bench::quantile(waits, 0.99));
  }
};

void create_map_revoke(Client& client) {
  RegionSpec wanted;
  wanted.name = "good/region";
  wanted.size = 65536;
  {
    Mapping mapping(client.create(wanted, Access::read_write));
    mapping.writable()[0] = std::byte{1};
  }
  client.revoke("good/region");
}

void open_map(Client& client) {
  const Mapping mapping(client.open(kSharedRegion, Access::read_only));
}

void compute() {
  for (std::atomic<int> done = 0; done < 1'000'000;) ++done;
}

/// The other end of a socket pair in a process of its own, which sends every byte back.
class Echo {
 public:
  Echo() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
    here_ = Fd(ends[0]);
    const Fd there(ends[1]);
    server_ = ::fork();
    if (server_ != 0) return;
    here_.reset();
    char byte = 0;
    while (::read(there.get(), &byte, 1) == 1 && ::write(there.get(), &byte, 1) == 1) {
    }
    ::_exit(0);
  }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;
  ~Echo() {
    here_.reset();
    ::waitpid(server_, nullptr, 0);
  }
  void once() const {
    char byte = 0;
    if (::write(here_.get(), &byte, 1) != 1 || ::read(here_.get(), &byte, 1) != 1) std::abort();
  }

 private:
  Fd here_;
  pid_t server_ = 0;
};

class Bench {
 public:
  Bench(const BrokerProcess& broker, Options options) : broker_(broker), options_(std::move(options)) {}

  /// `attack`: nothing for the neighbour alone.
  void compare(std::optional<Attack> attack, Placement placement, const char* what,
               const std::function<void()>& once, int operations) const {
    Waits alone;
    Waits beside;
    Waits attacked;
    std::uint64_t resident = 0;
    for (int round = 0; round < options_.rounds; ++round) {
      take_place(placement);
      alone.measure(operations, once);
      measure_beside(beside, placement, once, operations, [] { return Attacker(compute); });
      if (!attack) continue;
      measure_beside(attacked, placement, once, operations,
                     [&] { return Attacker(broker_, *attack, options_.when_full); });
      resident = std::max(resident, resident_kib(broker_.pid()));
    }
    renice(0);
    std::printf("%-16s %-8s %-18s %6.0f %6.0f   %6.0f %6.0f", attack ? to_string(*attack) : "(none)",
                to_string(placement), what, median(alone.p50), median(alone.p99), median(beside.p50),
                median(beside.p99));
    if (attack) {
      std::printf("   %6.0f %6.0f   %5.1f %5.1f   %6.1f\n", median(attacked.p50), median(attacked.p99),
                  median(attacked.p99) / median(alone.p99), median(attacked.p99) / median(beside.p99),
                  static_cast<double>(resident) / 1024);
    } else {
      std::printf("   (%.1f times alone)\n", median(beside.p99) / median(alone.p99));
    }
    std::fflush(stdout);
  }

  void compare_verbs(std::optional<Attack> attack) const {
    for (const Placement placement : kPlacements) {
      Client client = attack == Attack::endpoints ? neighbour() : broker_.connect();
      compare(
          attack, placement, "create+map+revoke", [&] { create_map_revoke(client); }, options_.operations);
      compare(
          attack, placement, "open+map", [&] { open_map(client); }, options_.operations);
    }
  }

  void compare_floor() const {
    const Echo echo;
    // As much work as a create, in round trips.
    const auto round_trips = [&] {
      for (int i = 0; i < 10; ++i) echo.once();
    };
    compare(std::nullopt, Placement::equal, "no broker", round_trips, options_.operations);
    compare_verbs(std::nullopt);
  }

 private:
  /// What `once` waits for beside the process that `start` starts.
  void measure_beside(Waits& waits, Placement placement, const std::function<void()>& once, int operations,
                      const std::function<Attacker()>& start) const {
    renice(0);  // Which it inherits.
    {
      // Which its children and threads inherit, whenever it starts them.
      pin(0, placement == Placement::apart ? options_.other_cpu : options_.cpu);
      const Attacker other = start();
      pin(0, options_.cpu);
      ::usleep(100'000);  // An attacker has its connections by then.
      take_place(placement);
      waits.measure(operations, once);
    }
    ::usleep(200'000);
  }

  /// By an endpoint, which is to have no less of the broker because others have many.
  [[nodiscard]] Client neighbour() const {
    EndpointSpec wanted;
    wanted.id = "neighbour";
    wanted.names = {"**"};
    Client maker = broker_.connect();
    const std::vector<EndpointInfo> known = maker.endpoints();
    if (std::none_of(known.begin(), known.end(),
                     [&](const EndpointInfo& endpoint) { return endpoint.spec.id == wanted.id; }))
      maker.endpoint_create(wanted);
    ConnectOptions options = BrokerProcess::patient();
    options.socket = broker_.directory() + "/endpoints/" + wanted.id + "/mapcap.sock";
    return Client::connect(options);
  }

  static void take_place(Placement placement) { renice(placement == Placement::ahead ? -10 : 0); }

  const BrokerProcess& broker_;
  Options options_;
};

/// The broker finds kLentUids in its /etc/subuid, where there is one at all.
void lend_uids(BrokerProcess& broker) {
  const std::string lent = broker.directory() + "/subuid";
  const std::string program = broker.directory() + "/mapcapd";
  std::ofstream(lent) << kLentUids;
  std::ofstream(program) << "#!/bin/sh\nexec unshare -m sh -c 'mount --bind " << lent
                         << " /etc/subuid && exec " << MAPCAPD_PATH << " \"$@\"' mapcapd \"$@\"\n";
  std::filesystem::permissions(program, std::filesystem::perms(0755));
  if (std::filesystem::exists("/etc/subuid")) broker.set_program(program);
}

void run(const Options& options) {
  pin(0, options.cpu);
  BrokerProcess broker(open_policy("[pool." + std::string(kPopulatedPool) +
                                   "]\nbacking = \"memory\"\ncapacity = \"256M\"\npopulate = true\n"
                                   "[[quota]]\nany = true\nconnections = 64\ngrants = 128\nregions = 128\n"
                                   "[[rule]]\nany = true\nverbs = [\"endpoint\"]\n"));
  lend_uids(broker);
  broker.start();
  Client owner = broker.connect();
  RegionSpec shared;
  shared.name = kSharedRegion;
  shared.size = 65536;
  shared.mode = 0604;
  shared.lifetime = Lifetime::persistent();
  owner.create(shared);
  std::printf("broker alone: %.1f MiB resident\n\n", static_cast<double>(resident_kib(broker.pid())) / 1024);
  std::printf("%-16s %-8s %-18s %13s   %13s   %13s   %11s   %6s\n", "attack", "placed", "p50/p99 in us of",
              "alone", "neighbour", "attacked", "times p99", "MiB");
  const Bench bench(broker, options);
  if (options.attack.empty()) bench.compare_floor();
  for (const Attack attack : kAttacks) {
    if (options.attack.empty() || options.attack == to_string(attack)) bench.compare_verbs(attack);
  }
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto number = [&] { return ++i < argc ? std::atoi(argv[i]) : 0; };
    if (word == "--cpu") {
      options.cpu = number();
    } else if (word == "--other-cpu") {
      options.other_cpu = number();
    } else if (word == "--rounds") {
      options.rounds = std::max(1, number());
    } else if (word == "--operations") {
      options.operations = std::max(1, number());
    } else if (word == "--wait") {
      options.when_full = WhenFull::wait;
    } else if (std::any_of(kAttacks.begin(), kAttacks.end(),
                           [&](Attack attack) { return word == to_string(attack); })) {
      options.attack = word;
    } else {
      throw std::invalid_argument("there is no attack \"" + word + "\"");
    }
  }
  return options;
}

}  // namespace
}  // namespace mapcap::test

int main(int argc, char** argv) {
  try {
    mapcap::test::run(mapcap::test::parse(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hostile_bench: %s\n", error.what());
    return 1;
  }
}
