// The broker's end of the mint: whoever asks waits for the answer, on his own thread. A mint that is gone is replaced by
// its heir, and what was asked is asked again, so that whoever asked hears nothing of it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "broker/mint/mint.h"
#include "broker/mint/wire.h"
#include "mapcap/fd.h"

namespace mapcap::broker::mint {

class Link {
 public:
  struct Heard {
    wire::Answer answer;
    std::vector<Fd> fds;
  };

  /// Forks the first mint, and has it fork its heir. While this process has one thread. Orphans of mints become this
  /// process's children from then on (PR_SET_CHILD_SUBREAPER), so that it learns how they end. Errors: `io`,
  /// `unavailable`.
  static Result<std::unique_ptr<Link>> start(const Places& places);
  /// Ends both, and waits for that, a second at most.
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  /// Starts the thread that notices when a mint ends that nobody asks anything. `lost`: called on it, or on a thread that
  /// asks, once, when mint and heir are both gone: nobody is left who could make another.
  void watch(std::function<void()> replaced, std::function<void()> lost);

  /// What a mint answers at once takes so long at most; one that is silent longer is killed.
  static constexpr std::chrono::milliseconds kAtOnce{2000};
  /// What is done by a child, by default.
  static constexpr std::chrono::milliseconds kInTime{10'000};
  /// A directory service may be slow.
  static constexpr std::chrono::milliseconds kPatient{120'000};

  /// Asks and waits. Thread-safe. Errors: what the mint answers; `unavailable` when there is none any more; `timed_out`;
  /// `malformed`.
  Result<Heard> ask(wire::Kind kind, std::uint64_t number = 0, const std::string& text = "",
                    std::span<const BorrowedFd> fds = {}, std::chrono::milliseconds patience = kInTime,
                    std::uint64_t second = 0);
  /// The same of a request that is complete but for the number of its descriptors.
  Result<Heard> ask(wire::Request request, std::span<const BorrowedFd> fds,
                    std::chrono::milliseconds patience);

  /// Of the mint that serves, and of its heir; 0: there is none. For tests and status.
  [[nodiscard]] pid_t pid() const;
  [[nodiscard]] pid_t heir_pid() const;

 private:
  struct Process {
    Fd control;
    Fd end;  ///< A pidfd.
    pid_t pid = 0;
  };
  /// Who answers there: the mint itself, or, from the first such question on, a child of its own.
  enum class Pace : bool { at_once, in_time };
  /// A socket on which one question at a time is asked.
  struct Lane {
    Fd socket;
    std::uint64_t generation = 0;
    Pace pace = Pace::at_once;
    bool used = false;
  };

  Link() = default;
  Result<Lane> take_lane(Pace pace);
  void give_back(Lane lane);
  /// That mint is gone, or of no use: the next one. Nothing when another thread was quicker.
  void replace(std::uint64_t generation);
  [[nodiscard]] bool is_current(std::uint64_t generation) const;
  /// Whether that mint has ended, or is about to: waits a moment for it.
  [[nodiscard]] bool has_ended(std::uint64_t generation) const;
  /// With mutex_ held: has the mint fork an heir.
  void ask_for_heir();
  void put_away(Process process);
  void reap();
  void look();

  mutable std::mutex mutex_;
  Process mint_;
  Process heir_;
  std::uint64_t generation_ = 1;
  std::vector<Lane> idle_;
  std::vector<pid_t> ended_;  ///< Mints whose children may still have to be taken.
  std::function<void()> replaced_;
  std::function<void()> lost_;
  bool told_lost_ = false;
  bool over_ = false;
  Fd wake_;
  std::thread watcher_;
};

}  // namespace mapcap::broker::mint
