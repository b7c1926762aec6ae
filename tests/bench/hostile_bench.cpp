// Promise 12 in figures: what a well-behaved client waits for while somebody else attacks, on one CPU that
// all of them share, beside the same client alone in the same run; and what the attack costs the broker in
// memory.
//
// Each attack runs in rounds, alone and attacked in turn; a line tells the median over the rounds of p50 and
// p99, and the ratio of the two p99. The first line is the floor: an attacker who never speaks to the broker
// and only computes, which is what sharing a CPU with anybody costs.
//
//     hostile_bench [ROUNDS [OPERATIONS]]      default 5 rounds of 500; everything runs on CPU 0
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <vector>

#include "tests/support/attackers.h"

namespace mapcap::test {
namespace {

using Clock = std::chrono::steady_clock;

struct Wait {
  double p50 = 0;
  double p99 = 0;
};

double at(std::vector<double>& sorted, double fraction) {
  return sorted.at(static_cast<std::size_t>(fraction * static_cast<double>(sorted.size() - 1)));
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return at(values, 0.5);
}

template <typename Operation>
Wait measure(int operations, Operation operation) {
  std::vector<double> waits;
  for (int i = 0; i < operations; ++i) {
    const auto begin = Clock::now();
    operation();
    waits.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  std::sort(waits.begin(), waits.end());
  return {at(waits, 0.5), at(waits, 0.99)};
}

struct Verb {
  const char* name;
  void (*once)(Client&);
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

constexpr Verb kVerbs[] = {{"create+map+revoke", create_map_revoke}, {"open+map", open_map}};

void compute() {
  for (std::atomic<int> done = 0; done < 1'000'000;) ++done;
}

/// `attack`: nothing for the floor.
void compare(const BrokerProcess& broker, std::optional<Attack> attack, int rounds, int operations) {
  for (const Verb& verb : kVerbs) {
    Client client = broker.connect();
    std::vector<double> alone50, alone99, attacked50, attacked99;
    std::uint64_t resident = 0;
    for (int round = 0; round < rounds; ++round) {
      const Wait alone = measure(operations, [&] { verb.once(client); });
      std::optional<Attacker> attacker;
      if (attack) attacker.emplace(broker, *attack);
      if (!attack) attacker.emplace(compute);
      ::usleep(100'000);  // It has its connections by then.
      const Wait attacked = measure(operations, [&] { verb.once(client); });
      resident = std::max(resident, resident_kib(broker.pid()));
      attacker.reset();
      ::usleep(200'000);
      alone50.push_back(alone.p50);
      alone99.push_back(alone.p99);
      attacked50.push_back(attacked.p50);
      attacked99.push_back(attacked.p99);
    }
    std::printf("%-16s %-18s %8.0f %8.0f   %8.0f %8.0f   %6.1f   %8.1f\n",
                attack ? to_string(*attack) : "(computes)", verb.name, median(alone50), median(alone99),
                median(attacked50), median(attacked99), median(attacked99) / median(alone99),
                static_cast<double>(resident) / 1024);
    std::fflush(stdout);
  }
}

int run(int rounds, int operations) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  if (::sched_setaffinity(0, sizeof one, &one) != 0) std::perror("sched_setaffinity");
  BrokerProcess broker(open_policy("[[quota]]\nany = true\nconnections = 64\ngrants = 128\nregions = 128\n"));
  broker.start();
  Client owner = broker.connect();
  RegionSpec shared;
  shared.name = kSharedRegion;
  shared.size = 65536;
  shared.mode = 0604;
  shared.lifetime = Lifetime::persistent();
  owner.create(shared);
  for (const Verb& verb : kVerbs) (void)measure(operations, [&] { verb.once(owner); });
  std::printf("broker alone: %.1f MiB resident\n\n", static_cast<double>(resident_kib(broker.pid())) / 1024);
  std::printf("%-16s %-18s %17s   %17s   %6s   %8s\n", "attack", "well-behaved", "alone p50/p99 us",
              "attacked p50/p99", "ratio", "MiB");
  compare(broker, std::nullopt, rounds, operations);
  for (const Attack attack : kAttacks) compare(broker, attack, rounds, operations);
  return 0;
}

}  // namespace
}  // namespace mapcap::test

int main(int argc, char** argv) {
  try {
    return mapcap::test::run(argc > 1 ? std::atoi(argv[1]) : 5, argc > 2 ? std::atoi(argv[2]) : 500);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hostile_bench: %s\n", error.what());
    return 1;
  }
}
