// What an entry of the attack table is, and what its attempt may use.
//
// An attempt runs in a process of its own that ends right after it. So attempts close and unmap nothing: the
// kernel does, and the next attempt starts clean.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/attack/attack.h"

namespace mapcap::attack {

// What the attacker has: the grant, what it was told about it, and what the region contains.
struct Context {
  int fd;
  Access rights;
  std::uint64_t size;
  Confinement confinement;
  std::size_t page;
  // The first bytes of the region, copied beforehand: a call that delivers these has leaked them.
  std::span<const std::byte> contents;

  [[nodiscard]] bool writable() const { return rights == Access::read_write; }
};

// What an attempt saw from inside.
struct Attempt {
  Seen seen;
  int error = 0;
  std::string note{};
};

enum class Rule {
  refused,
  allowed,
  allowed_rw,     // a holder of rw is entitled to it, and through it to change contents; with ro it must be
                  // refused
  tolerated_rw,   // with rw either answer is fine and contents may change; with ro it must be refused
  harmless,       // either answer is fine, nothing may change
  private_inode,  // changes only a property of the inode: harmless where each grant has an inode of its own
                  // (clone) or where the inode is a device's node, no part of the memory (native)
  node_times,     // changes only the times of the inode: harmless for a device's node (native)
};

enum class Evidence {
  answer,  // success is success; an observed change is success too
  change,  // a success that changed nothing is a refusal
};

enum class Where {
  process,        // a plain unprivileged process
  own_namespace,  // root of a user and mount namespace that it made
};

using Try = std::function<Attempt(const Context&)>;

struct Operation {
  std::string family;
  std::string name;
  Rule rule;
  Evidence evidence;
  Where where;
  Try attempt;
};

// Registers the operations of one family.
class Family {
 public:
  Family(std::vector<Operation>& all, std::string_view name, Where where = Where::process)
      : all_(all), name_(name), where_(where) {}

  void refused(std::string name, Try attempt) { add(std::move(name), Rule::refused, std::move(attempt)); }
  // Refused, and judged by the region alone.
  void unchanged(std::string name, Try attempt) {
    add(std::move(name), Rule::refused, std::move(attempt), Evidence::change);
  }
  void allowed(std::string name, Try attempt) { add(std::move(name), Rule::allowed, std::move(attempt)); }
  void harmless(std::string name, Try attempt) { add(std::move(name), Rule::harmless, std::move(attempt)); }
  void add(std::string name, Rule rule, Try attempt, Evidence evidence = Evidence::answer) {
    all_.push_back({name_, std::move(name), rule, evidence, where_, std::move(attempt)});
  }

 private:
  std::vector<Operation>& all_;
  std::string name_;
  Where where_;
};

// One function a file.
void add_read_write(std::vector<Operation>& all);
void add_transfer(std::vector<Operation>& all);
void add_io_uring(std::vector<Operation>& all);
void add_aio(std::vector<Operation>& all);
void add_size(std::vector<Operation>& all);
void add_attributes(std::vector<Operation>& all);
void add_descriptor(std::vector<Operation>& all);
void add_ioctl(std::vector<Operation>& all);
void add_reopen(std::vector<Operation>& all);
void add_mapping(std::vector<Operation>& all);
void add_advice(std::vector<Operation>& all);
void add_kernel_store(std::vector<Operation>& all);
void add_process(std::vector<Operation>& all);
void add_mount(std::vector<Operation>& all);
void add_watch(std::vector<Operation>& all);
void add_misuse(std::vector<Operation>& all);
void add_compat(std::vector<Operation>& all);
void add_seals(std::vector<Operation>& all);  // last: seals cannot be taken off again

[[nodiscard]] std::vector<Operation> all_operations();

// run() with operations of the caller's, so that the judgement itself can be tested.
[[nodiscard]] std::vector<Outcome> run(const Target& target, const Options& options,
                                       const std::vector<Operation>& operations);

// --- what attempts are written with ---

[[nodiscard]] Attempt refused(int error, std::string note = {});
[[nodiscard]] Attempt allowed(std::string note = {});
[[nodiscard]] Attempt unsupported(std::string note);
[[nodiscard]] Attempt inconclusive(std::string note);

// From a system call's answer: negative is a refusal with errno (ENOSYS: unsupported), anything else was
// allowed.
[[nodiscard]] Attempt answered(long answer);

// From the answer of a call that delivers bytes: allowed when any came out.
[[nodiscard]] Attempt delivered(const Context& context, long answer, std::span<const std::byte> bytes);

// As many bytes, each other than what the region holds there.
[[nodiscard]] std::vector<std::byte> other_bytes(const Context& context, std::size_t count);

// The whole region, shared, with all that the rights give. nullptr with errno when refused.
[[nodiscard]] std::byte* map_region(const Context& context);
[[nodiscard]] std::byte* map(const Context& context, int protection, int flags = MAP_SHARED);

// Whether `touch` ends without a fault. It runs in a child, which shares the mappings of the region but not
// private memory.
[[nodiscard]] bool survives(const std::function<void()>& touch);

// Reads or writes one byte; false when that faults.
[[nodiscard]] bool readable(const std::byte* address);
[[nodiscard]] bool store(std::byte* address, std::byte value);

// Whether the mapping at the address is executable, by /proc/self/maps.
[[nodiscard]] bool is_executable(const void* address);

// "/proc/self/fd/7"
[[nodiscard]] std::string fd_path(int fd);

// A fresh file in the scratch directory, open for reading and writing, of `bytes` zeros. Stops the attempt on
// failure.
[[nodiscard]] int scratch_file(std::size_t bytes = 0, int extra_flags = 0);

struct Pipe {
  int read_end;
  int write_end;
};
[[nodiscard]] Pipe make_pipe();

// The bytes waiting in a non-blocking descriptor, at most `most`.
[[nodiscard]] std::vector<std::byte> drain(int fd, std::size_t most);

// A helper process that runs `body` and ends; its pid. Killed with the attempt.
[[nodiscard]] pid_t spawn(const std::function<void()>& body);

// Waits for a helper to end; its wait status.
int wait_for(pid_t pid);

// What the attempt is to report if it does not come back, because exec replaces it.
void expect_replacement(std::string_view note);

}  // namespace mapcap::attack
