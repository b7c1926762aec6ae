// What hostile_test and hostile_bench send against a broker: processes of a user of their own who flood,
// stall and die.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "tests/support/broker_process.h"

namespace mapcap::test {

inline constexpr uid_t kAttacker = 64001;

/// A region that everybody may open ro; make it before Attack::grants.
inline constexpr const char* kSharedRegion = "good/shared";

/// To the attacker, where Attack::lent_uids is to count as one user's: a line of /etc/subuid.
inline constexpr const char* kLentUids = "64001:164000:65536\n";

/// A pool with `populate = true`, for Attack::populating.
inline constexpr const char* kPopulatedPool = "populated";

enum class Attack {
  connections,      ///< Opens connections, as many as it gets, and drops them.
  requests,         ///< Ten thousand requests ahead of their answers.
  largest_packets,  ///< 200 KiB of nonsense at full speed.
  grants,           ///< Opens one region again and again and keeps every grant.
  deaf,             ///< Sends creates with grants and never reads an answer.
  refused,          ///< Asks for what it may not have, in a loop.
  churn,            ///< Creates, maps and revokes as fast as it can: all of it allowed.
  misread,          ///< Reads from a grant at full speed: each read asks the keeper, and is refused.
  mappings,         ///< Maps one small region as often as a process may, and revokes it.
  letting_go,       ///< Takes as many grants as it gets, and lets go of all of them at once.
  stars,            ///< Lists regions with long names by a glob of stars.
  populating,       ///< Creates and revokes regions of 64 MiB in kPopulatedPool, where there is one.
  riders,           ///< Asks to clone sockets that take a minute to close, and closes its own descriptor.
  clones,           ///< Has a file cloned on four connections, as fast as it can.
  lent_uids,        ///< misread by kLentUidsUsed uids that are lent to it. Needs root to become them.
  endpoints,        ///< churn through kEndpointsUsed endpoints of its own at once.
};
inline constexpr int kLentUidsUsed = 40;
inline constexpr int kEndpointsUsed = 8;
inline constexpr std::array kAttacks{
    Attack::connections, Attack::requests,   Attack::largest_packets, Attack::grants,
    Attack::deaf,        Attack::refused,    Attack::churn,           Attack::misread,
    Attack::mappings,    Attack::letting_go, Attack::stars,           Attack::populating,
    Attack::riders,      Attack::clones,     Attack::lent_uids,       Attack::endpoints};
const char* to_string(Attack attack);

/// What a flooder does whose socket takes no more: goes on trying, which costs a processor whatever the
/// broker does, or waits until it takes more, as fast as it goes.
enum class WhenFull : bool { try_on, wait };

/// One round of it, in the calling process. May throw: a refusal is an answer too.
void carry_out(Attack attack, const BrokerProcess& broker, WhenFull when_full = WhenFull::try_on);

/// A process of user kAttacker that repeats `round` until it is killed; an exception only ends the round.
class Attacker {
 public:
  explicit Attacker(const std::function<void()>& round);
  /// On the processors of who starts it.
  Attacker(const BrokerProcess& broker, Attack attack, WhenFull when_full = WhenFull::try_on);
  Attacker(const Attacker&) = delete;
  Attacker& operator=(const Attacker&) = delete;
  ~Attacker() { end(); }
  void end();
  /// It may have children, and threads.
  [[nodiscard]] pid_t pid() const { return child_; }

 private:
  Attacker(const std::function<void()>& round, uid_t user);
  pid_t child_ = 0;
};

/// KiB of VmRSS; 0 when the process is gone.
std::uint64_t resident_kib(pid_t pid);
/// Open descriptors, apart from what is made ahead: a blank is a clone and its memory, a ready open a clone with a name.
std::size_t descriptors_of(pid_t pid);
/// Connections to the mint are made when they are first needed: one for each thread that asks it, at most.
inline constexpr std::size_t kConnectionsToTheMint = 12;

}  // namespace mapcap::test
