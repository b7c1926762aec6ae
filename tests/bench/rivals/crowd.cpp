#include "tests/bench/rivals/crowd.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <string>

#include "broker/wait/scheduling.h"
#include "tests/bench/measure.h"

namespace mapcap::bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

constexpr std::size_t kMostWaits = 1U << 17U;  ///< Of one slot; what comes after is counted, but not told.
constexpr uid_t kFirstUser = 64100;
/// Before its time counts, so that caches, connections and pages are there.
constexpr int kWarmUp = 3;

struct Order {
  Slot slot;
  nanoseconds start{0};
};

struct Report {
  std::uint64_t operations = 0;
  nanoseconds took{0};
  std::array<char, 240> error{};
};

void sleep_until(nanoseconds time) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
  const timespec until{seconds.count(), static_cast<long>((time - seconds).count())};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

nanoseconds now() {
  return Clock::now().time_since_epoch();
}

Report carry_out(const Order& order, Session& session, float* waits) {
  const Verb verb = order.slot.verb;
  const auto one = [&] {
    session.before(verb);
    const nanoseconds begin = now();
    session.once(verb);
    const nanoseconds end = now();
    session.after(verb);
    return end - begin;
  };
  for (int i = 0; i < kWarmUp; ++i) one();
  sleep_until(order.start);
  Report report;
  const nanoseconds begin = now();
  while (report.operations < order.slot.at_most && report.took < order.slot.length) {
    const nanoseconds waited = one();
    if (report.operations < kMostWaits)
      waits[report.operations] = static_cast<float>(static_cast<double>(waited.count()) / 1e3);
    ++report.operations;
    report.took = now() - begin;
  }
  session.finish(verb);
  return report;
}

}  // namespace

void pin(pid_t process, int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(cpu), &one);
  if (::sched_setaffinity(process, sizeof one, &one) != 0) std::perror("sched_setaffinity");
}

Crowd::Crowd(int clients, const std::vector<Way>& ways, bool promptly) : ways_(ways), promptly_(promptly) {
  const std::size_t bytes = sizeof(float) * kMostWaits * static_cast<std::size_t>(clients);
  void* shared =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (shared == MAP_FAILED) throw std::runtime_error("no memory for what clients measure");
  waits_ = static_cast<float*>(shared);
  for (int number = 0; number < clients; ++number) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
      throw std::runtime_error("no socket pair for a client");
    Member member{::fork(), Fd(ends[0])};
    if (member.pid == 0) {
      member.orders.reset();
      live(number, ends[1]);
    }
    ::close(ends[1]);
    members_.push_back(std::move(member));
  }
}

Crowd::~Crowd() {
  for (Member& member : members_) member.orders.reset();
  for (const Member& member : members_) ::waitpid(member.pid, nullptr, 0);
  ::munmap(waits_, sizeof(float) * kMostWaits * members_.size());
}

void Crowd::live(int number, int orders) const {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Those of members before it: else they would not see their end.
  for (const Member& member : members_) ::close(member.orders.get());
  if (promptly_) broker::run_promptly();
  std::vector<std::unique_ptr<Session>> sessions(ways_.size());
  for (std::size_t way = 0; way < ways_.size(); ++way) {
    if (ways_[way].as_root) sessions[way] = ways_[way].connect(number);
  }
  if (number > 0) {
    const uid_t user = kFirstUser + static_cast<uid_t>(number);
    if (::setresgid(user, user, user) != 0 || ::setresuid(user, user, user) != 0) ::_exit(1);
  }
  float* waits = waits_ + kMostWaits * static_cast<std::size_t>(number);
  Order order;
  while (::read(orders, &order, sizeof order) == static_cast<ssize_t>(sizeof order)) {
    pin(0, order.slot.cpu);
    Report report;
    try {
      auto& session = sessions.at(order.slot.way);
      if (session == nullptr) session = ways_.at(order.slot.way).connect(number);
      report = carry_out(order, *session, waits);
    } catch (const std::exception& error) {
      std::strncpy(report.error.data(), error.what(), report.error.size() - 1);
    }
    if (::write(orders, &report, sizeof report) < 0) break;
  }
  sessions.clear();
  ::_exit(0);
}

Outcome Crowd::run(const Slot& slot) {
  // Enough for all of them to be awake, connected and warm.
  const auto ready = std::chrono::milliseconds(2) + std::chrono::microseconds(500) * members_.size();
  const Order order{slot, now() + ready};
  for (const Member& member : members_) {
    if (::write(member.orders.get(), &order, sizeof order) < 0) throw std::runtime_error("a client is gone");
  }
  Outcome outcome;
  std::vector<float> waits;
  std::string error;
  for (std::size_t number = 0; number < members_.size(); ++number) {
    Report report;
    if (::read(members_[number].orders.get(), &report, sizeof report) != static_cast<ssize_t>(sizeof report))
      throw std::runtime_error("a client died");
    if (report.error[0] != '\0') error = report.error.data();
    const float* own = waits_ + kMostWaits * number;
    waits.insert(waits.end(), own, own + std::min<std::uint64_t>(report.operations, kMostWaits));
    outcome.operations += report.operations;
    if (report.took.count() > 0)
      outcome.per_second +=
          static_cast<double>(report.operations) * 1e9 / static_cast<double>(report.took.count());
  }
  if (!error.empty())
    throw std::runtime_error(ways_[slot.way].name + ", " + to_string(slot.verb) + ": " + error);
  if (waits.empty()) throw std::runtime_error(ways_[slot.way].name + ": nothing was done");
  std::sort(waits.begin(), waits.end());
  outcome.p50 = quantile(waits, 0.5);
  outcome.p99 = quantile(waits, 0.99);
  outcome.longest = waits.back();
  return outcome;
}

}  // namespace mapcap::bench
