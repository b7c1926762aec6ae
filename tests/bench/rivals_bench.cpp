// mapcap beside what does the same work with less, or by other means, in one run: a plain C server (the floor), sd-bus
// peer to peer and through dbus-daemon, and shm_open with no server at all. All of them take turns within each round, so
// that whatever else the machine does hits all alike; ratios are taken round by round.
//
//     rivals_bench [--rounds N] [--slot MS] [--sustained SECONDS] [--memory ROUNDS] [--clients N]...
//                  [--cpu N] [--other-cpu N] [--promptly 0]
//
// Servers stay on --cpu (0), and run as mapcapd does, in short slices at nice -10. So do clients unless they are told not
// to: what else runs on the machine then disturbs little. In each round they are once on --other-cpu (1): "apart", and
// once with the servers: "together". Writes one line of JSON for each slot to standard output, progress to standard error.
// Needs root.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/bench/measure.h"
#include "tests/bench/rivals/crowd.h"
#include "tests/bench/rivals/memory.h"
#include "tests/bench/rivals/servers.h"

namespace mapcap::bench {

volatile std::sig_atomic_t stop = 0;

namespace {

using std::chrono::milliseconds;

struct Options {
  int rounds = 12;               ///< With one client; half as many with eight, a third with more.
  milliseconds slot{50};         ///< Of each way and verb.
  milliseconds sustained{4000};  ///< Of each way, in four rounds; 0: not at all.
  int memory = 5;                ///< Rounds of faults and bandwidth; 0: not at all.
  int cpu = 0;
  int other_cpu = 1;
  bool promptly = true;
  std::vector<int> clients;
};

struct Part {
  const char* kind;
  std::vector<Verb> verbs;
  int clients;
  int rounds;
  milliseconds slot;
  bool together;  ///< Too, and not only apart.
};

class Progress {
 public:
  explicit Progress(const Part& part) : part_(part), shown_(::isatty(STDERR_FILENO) != 0) {
    if (!shown_) std::fprintf(stderr, "%s, %d client(s)\n", part.kind, part.clients);
  }
  ~Progress() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void tell(int round, const Way& way, Verb verb) const {
    if (!shown_) return;
    std::fprintf(stderr, "\r\033[K%s, %d client(s): round %d of %d: %s, %s", part_.kind, part_.clients,
                 round + 1, part_.rounds, way.name.c_str(), to_string(verb));
  }

 private:
  const Part& part_;
  bool shown_;
};

void measure(Crowd& crowd, const Part& part, const Way& way, Slot slot, const char* place, int round) {
  if (stop != 0) throw std::runtime_error("interrupted");
  // Regions that nobody ends meanwhile are memory that a flood must not take for itself.
  if (slot.verb == Verb::flood) slot.at_most = 1000;
  const double before = processor_time(way.servers);
  const Outcome outcome = crowd.run(slot);
  const double worked = processor_time(way.servers) - before;
  std::printf(
      "{\"kind\": \"%s\", \"clients\": %d, \"place\": \"%s\", \"way\": \"%s\", \"verb\": \"%s\", \"round\": "
      "%d, "
      "\"operations\": %llu, \"p50\": %.2f, \"p99\": %.2f, \"longest\": %.1f, \"per_second\": %.1f, "
      "\"server_us\": %.2f}\n",
      part.kind, part.clients, place, way.name.c_str(), to_string(slot.verb), round,
      static_cast<unsigned long long>(outcome.operations), outcome.p50, outcome.p99, outcome.longest,
      outcome.per_second, worked / static_cast<double>(outcome.operations));
  std::fflush(stdout);
}

void run(const Options& options, const Part& part) {
  const Servers servers(options.cpu);
  for (const Missing& missing : servers.missing())
    std::printf("{\"kind\": \"missing\", \"way\": \"%s\", \"reason\": \"%s\"}\n", missing.way.c_str(),
                missing.reason.c_str());
  const std::vector<Way>& ways = servers.ways();
  Crowd crowd(part.clients, ways, options.promptly);
  const Progress progress(part);
  for (int round = 0; round < part.rounds; ++round) {
    for (const bool together : {false, true}) {
      if (together && !part.together) continue;
      for (const Verb verb : part.verbs) {
        for (std::size_t i = 0; i < ways.size(); ++i) {
          // Nobody always comes after the same neighbour.
          const std::size_t index = (i + static_cast<std::size_t>(round)) % ways.size();
          if (!ways[index].can(verb)) continue;
          progress.tell(round, ways[index], verb);
          Slot slot;
          slot.way = index;
          slot.verb = verb;
          slot.cpu = together ? options.cpu : options.other_cpu;
          slot.length = part.slot;
          measure(crowd, part, ways[index], slot, together ? "together" : "apart", round);
        }
      }
    }
  }
}

void run_all(Options options) {
  if (options.clients.empty()) options.clients = {1, 8, 64};
  for (const int clients : options.clients) {
    const int fewer = clients == 1 ? 1 : clients <= 8 ? 2 : 3;
    run(options, {"latency",
                  {Verb::show, Verb::open, Verb::create, Verb::revoke},
                  clients,
                  std::max(2, options.rounds / fewer),
                  options.slot,
                  true});
  }
  if (options.memory > 0) measure_memory(Servers(options.cpu).brokered(), options.memory);
  if (options.sustained.count() == 0) return;
  run(options, {"sustained", {Verb::create, Verb::cycle}, 8, 4, options.sustained / 4, false});
  run(options, {"flood", {Verb::flood}, 8, 2, options.sustained, false});
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string word = argv[i];
    if (i + 1 == argc) throw std::invalid_argument(word + " needs a number");
    const int number = std::atoi(argv[i + 1]);
    if (word == "--rounds") {
      options.rounds = std::max(1, number);
    } else if (word == "--slot") {
      options.slot = milliseconds(std::max(1, number));
    } else if (word == "--sustained") {
      options.sustained = std::chrono::seconds(number);
    } else if (word == "--memory") {
      options.memory = number;
    } else if (word == "--cpu") {
      options.cpu = number;
    } else if (word == "--other-cpu") {
      options.other_cpu = number;
    } else if (word == "--promptly") {
      options.promptly = number != 0;
    } else if (word == "--clients") {
      options.clients.push_back(std::max(1, number));
    } else {
      throw std::invalid_argument("there is no option " + word);
    }
  }
  return options;
}

}  // namespace
}  // namespace mapcap::bench

int main(int argc, char** argv) {
  if (::geteuid() != 0) {
    std::fprintf(stderr, "rivals_bench: needs root, because it starts mapcapd\n");
    return 77;
  }
  // Without SA_RESTART, so that what waits for a client gives up, and everything is ended and removed.
  struct sigaction interrupted {};
  interrupted.sa_handler = [](int) { mapcap::bench::stop = 1; };
  ::sigaction(SIGINT, &interrupted, nullptr);
  ::sigaction(SIGTERM, &interrupted, nullptr);
  try {
    mapcap::bench::run_all(mapcap::bench::parse(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rivals_bench: %s\n", error.what());
    return 1;
  }
}
