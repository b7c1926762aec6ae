// A way for a program to get memory by name from another one, or without anybody: what is compared.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace mapcap::bench {

constexpr std::uint64_t kRegionBytes = 1U << 20U;

enum class Verb : std::uint8_t {
  show,    ///< a request that only looks
  open,    ///< what is there already, mapped read-only
  create,  ///< something new, mapped; what ends it again is not timed
  revoke,  ///< what ends it, alone
  cycle,   ///< both, as one
  flood,   ///< creates, and ends nothing before the end
};
inline constexpr std::array kVerbs{Verb::show,   Verb::open,  Verb::create,
                                   Verb::revoke, Verb::cycle, Verb::flood};
const char* to_string(Verb verb);

/// One client's connection. Of each verb: before(), then the timed once(), then after(). Throws what went wrong.
class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  virtual ~Session() = default;

  virtual void before(Verb) {}
  virtual void once(Verb verb) = 0;
  virtual void after(Verb) {}
  /// When all that was asked for is done: nothing of it stays.
  virtual void finish(Verb) {}
};

struct Way {
  std::string name;
  std::vector<Verb> verbs;
  /// In the client's process. `number`: of the client, from 0.
  std::function<std::unique_ptr<Session>(int number)> connect;
  std::vector<pid_t> servers;  ///< Whose processor time is counted; empty: nobody serves.
  bool as_root = false;        ///< Clients connect before they become a user.

  [[nodiscard]] bool can(Verb verb) const;
};

}  // namespace mapcap::bench
