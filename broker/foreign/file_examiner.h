// Files that clients pass, looked at before the broker has them: the broker's side of the examiner
// (foreign/examiner_process.h).
//
// One examiner serves everybody and lives as long as the broker. What hangs in it hangs in a thread of its
// own, and counts for the user who sent it until it ends; an examiner that does not answer at all is killed,
// and another one started. What it does for a user is on that user's account.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "broker/foreign/examiner_process.h"
#include "broker/foreign/examiner_wire.h"
#include "broker/wait/closing.h"
#include "broker/wait/event.h"
#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"
#include "mapcap/fd.h"

namespace mapcap::broker {

/// A regular file of a filesystem that no process answers for.
struct PassedFile {
  ClosedElsewhere fd;
  ByteCount size;  ///< At least 1 byte; of the moment when it was looked at.
};

class FileExaminer {
 public:
  /// Ports that a user may have at a time, those included whose files hang.
  static constexpr std::size_t kMostOfUser = 16;
  /// Of all users; administrators may have kForRoot more.
  static constexpr std::size_t kMost = 240;
  static constexpr std::size_t kForRoot = 16;

  /// `first`: forked before any thread existed. `worker` forks its successors.
  FileExaminer(Loop& loop, Worker& worker, foreign::ExaminerProcess first);
  /// Only of one that has served nobody: what hangs would be waited for.
  ~FileExaminer();
  FileExaminer(const FileExaminer&) = delete;
  FileExaminer& operator=(const FileExaminer&) = delete;

  struct Port {
    std::uint64_t number = 0;
    Fd client;  ///< The client's end; its own queue is always empty.
  };
  /// Errors: `exhausted` when the user's earlier files, or everybody's, keep too many ports; `unavailable`.
  Task<Result<Port>> open_port(std::uint32_t account);

  /// The file that was sent to the port, which ends with that. Errors: `invalid` when not exactly one
  /// descriptor was sent, for what is no regular file or empty, `unsupported` for a filesystem that is not
  /// local or does not answer, `unavailable` when the port ended with its examiner (detail `port`): ask for
  /// another one.
  Task<Result<PassedFile>> examine(std::uint64_t port);

  /// With whatever was sent to it. Also of a port that is gone already.
  void drop(std::uint64_t port);

  /// Closes a client's connection whose queue may hold descriptors (kernels before 6.16).
  void bury(Fd socket, Meter::Account account);

 private:
  struct Process;
  struct Job;
  using JobPointer = std::shared_ptr<Job>;

  void adopt(foreign::ExaminerProcess started);
  Task<void> hear(std::shared_ptr<Process> process);
  bool take_reports(Process& process);
  void take(const foreign::Report& report, Fd fd);
  bool order(const foreign::Order& order, BorrowedFd with = {});
  /// Kills it, if it is still the one that serves, and starts another.
  void replace(const std::shared_ptr<Process>& process);
  Task<void> start_another();
  Task<Result<Port>> try_open(std::uint32_t account);
  Task<Result<void>> make_room(std::uint32_t account);
  [[nodiscard]] bool has_room(std::uint32_t account) const;
  Task<void> wait(JobPointer job, std::chrono::nanoseconds patience);
  void reap();
  void bury_more();
  void watch_burials();

  Loop& loop_;
  Worker& worker_;
  Closing closing_;
  std::shared_ptr<Process> process_;  ///< Null while another one is being started.
  Event started_;
  std::uint64_t next_ = 1;
  std::unordered_map<std::uint64_t, JobPointer> jobs_;
  std::size_t burials_ = 0;                             ///< Of jobs_, sockets that are being let go of.
  std::deque<std::pair<Fd, Meter::Account>> unburied_;  ///< Until there is room for them.
  Loop::Timer burial_timer_;
  bool watching_burials_ = false;
  bool buried_one_ = false;                      ///< Since the timer was set.
  std::vector<std::shared_ptr<Process>> dying_;  ///< Killed, not gone yet.
  Loop::Timer reap_timer_;
};

}  // namespace mapcap::broker
