// A broker of one's own, which is gone with its owner.
#pragma once

#include <sys/types.h>

#include <string>

#include "mapcap/fd.h"
#include "mapcap/words.h"

namespace mapcap::cli {

/// A mapcapd that runs as the caller, in a temporary directory that only he can enter. Whoever can reach its
/// socket may do everything; there is one pool, of memory.
///
/// Its confinement is `clone` where the caller is the machine's root and the kernel has FUSE passthrough, else
/// `sealed`. A user namespace would not help: the kernel lets only the initial one's root back a clone or load
/// a BPF program.
class PrivateBroker {
 public:
  /// Returns when it serves. Errors: `not_found` where there is no mapcapd, `io`, and what the broker itself
  /// says.
  PrivateBroker();
  /// Returns when broker, keeper and directory are gone. What is still mapped stays mapped.
  ~PrivateBroker();
  PrivateBroker(const PrivateBroker&) = delete;
  PrivateBroker& operator=(const PrivateBroker&) = delete;

  [[nodiscard]] std::string socket() const { return directory_ + "/mapcap.sock"; }
  [[nodiscard]] Confinement confinement() const { return confinement_; }
  /// Why it is not a clone; empty where it is.
  [[nodiscard]] const std::string& reason() const { return reason_; }
  /// Readable when the broker has ended although nobody asked it to.
  [[nodiscard]] int ended_fd() const { return warden_.get(); }

 private:
  /// False where the broker ended instead of serving; then reason_ is its last word.
  bool start(const std::string& daemon, Confinement confinement);
  bool wait_until_served();
  void end();

  std::string directory_;
  Fd warden_;
  pid_t warden_pid_ = -1;
  Confinement confinement_ = Confinement::sealed;
  std::string reason_;
};

}  // namespace mapcap::cli
