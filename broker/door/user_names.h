// What the machine's accounts call a user, without the loop having to wait for them.
//
// A lookup reads a file at best (some 200 system calls when nobody has the uid and every source is asked),
// and waits for a directory service that does not answer at worst. So threads of their own make the lookups,
// one for each user at a time, and what they found is believed for some seconds: a flood of connections costs
// no more of them than one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <unordered_map>

#include "broker/wait/event.h"
#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"

namespace mapcap::broker {

class UserNames {
 public:
  /// How long a name is believed, and that there is none.
  static constexpr std::chrono::seconds kBelieved{10};
  /// Users whose names are kept; the memory that this takes is some 200 bytes each.
  static constexpr std::size_t kMost = 4096;

  /// Called on the worker's threads; empty for a uid without a name.
  using LookUp = std::function<std::string(uid_t)>;
  /// getpwuid_r(3).
  static std::string from_accounts(uid_t uid);

  UserNames(Loop& loop, Worker& worker, LookUp look_up = from_accounts,
            std::chrono::nanoseconds believed = kBelieved)
      : loop_(loop), worker_(worker), look_up_(std::move(look_up)), believed_(believed) {}
  UserNames(const UserNames&) = delete;
  UserNames& operator=(const UserNames&) = delete;

  /// Empty when the user has no name. Does not suspend for a name that is known.
  Task<std::string> of(uid_t uid);

 private:
  using Time = TimeSource::Time;
  struct Known {
    std::string name;
    Time until;
  };
  void learn(uid_t uid, std::string name);

  Loop& loop_;
  Worker& worker_;
  LookUp look_up_;
  std::chrono::nanoseconds believed_;
  std::unordered_map<uid_t, Known> known_;
  std::unordered_map<uid_t, Event> asked_;  ///< Lookups under way, and who waits for them.
};

}  // namespace mapcap::broker
