// The attack table: what an unprivileged holder of a grant can do with the fd, tried on the real fd, one
// operation a process, and judged by what happens to the region rather than by what the call answers.
//
// Promises 1, 2 and 3 say that a grant can be mapped and nothing else, that its rights never grow and that it
// reaches its own bytes only. This table is how a machine is asked whether that is true on it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "mapcap/words.h"

namespace mapcap::attack {

// The fd under attack. It is borrowed for the run. Nobody else may write to its region meanwhile: every
// change is taken for the attacker's. The contents of a `read_write` region are overwritten, and put back at
// the end.
struct Target {
  int fd;
  Access rights;
  std::uint64_t size;  // bytes
  Confinement confinement;
};

enum class Expected {
  refused,   // letting it through breaks a promise
  allowed,   // a holder is entitled to it
  harmless,  // either answer keeps the promises, as long as the region stays as it was
};

enum class Seen {
  refused,
  allowed,
  unsupported,   // this machine has no such operation, for anybody
  inconclusive,  // the attempt hung or died, so it proves nothing
  left_out,      // not tried, since the caller said so
};

struct Outcome {
  std::string family;     // "read", "mapping", ...
  std::string operation;  // unique: "preadv2 RWF_NOWAIT"
  Expected expected = Expected::refused;
  Seen seen = Seen::inconclusive;
  int error = 0;       // errno of the refusal, 0 where there was none
  std::string note;    // what a reader should know beyond errno
  std::string damage;  // what the trusted observer saw change although it must not; empty when nothing did
};

// A promise of confinement is broken.
[[nodiscard]] bool is_hole(const Outcome& outcome);

// Something that a holder is entitled to was not given, or the attempt proved nothing.
[[nodiscard]] bool is_broken(const Outcome& outcome);

struct Options {
  // Whom the attacker runs as; used when the caller is root, otherwise the caller's own ids stay.
  uid_t uid = 65534;
  gid_t gid = 65534;
  // How long one operation may take before it is killed and called inconclusive.
  std::chrono::milliseconds patience{10000};
  // Only operations whose "family/operation" contains this; empty means all.
  std::string only;
  // An operation that is not tried, as "family/operation", for example because this machine would not survive
  // it; empty means none.
  std::string except;
  // Called after each operation, for a progress display; may be empty.
  std::function<void(const Outcome&)> on_outcome;
};

// Runs the whole table. The caller should be root, so that the attacker can be made a stranger to the region;
// else the table tells what the calling user can do. Forks; safe to call from a process with one thread.
[[nodiscard]] std::vector<Outcome> run(const Target& target, const Options& options = {});

// Whether the table has an operation of that "family/operation".
[[nodiscard]] bool is_operation(std::string_view title);

// How many operations the table has.
[[nodiscard]] std::size_t operation_count();

struct Summary {
  std::size_t operations = 0;
  std::size_t refused = 0;
  std::size_t allowed = 0;
  std::size_t unsupported = 0;
  std::size_t left_out = 0;
  std::size_t holes = 0;
  std::size_t broken = 0;
};
[[nodiscard]] Summary summarize(const std::vector<Outcome>& outcomes);

enum class Rows {
  findings,  // holes and broken entries only
  all,
};

// For people: one line an outcome, then the sums.
void print_table(std::ostream& out, const std::vector<Outcome>& outcomes, Rows rows);

// For programs: {"operations": [...], "holes": N, ...}, one line.
void print_json(std::ostream& out, const std::vector<Outcome>& outcomes);

[[nodiscard]] const char* to_string(Expected expected);
[[nodiscard]] const char* to_string(Seen seen);

}  // namespace mapcap::attack
