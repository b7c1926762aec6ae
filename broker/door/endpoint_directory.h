// Where endpoints' sockets are: RUNTIME/endpoints/PLACE/mapcap.sock, RUNTIME being the directory of the broker's own
// socket, and PLACE an id, or @UID/ID of a user's.
//
// RUNTIME/endpoints and @UID are 0700, so nobody but root gets at a socket by its path; ID below is 0755 and the socket
// 0666, so whoever is given the directory, by a mount or a descriptor, can connect, whatever uid he has. The
// directory is what is given, and it stays across restarts: a socket that was bind-mounted itself would be
// dead after the first. Modes are set explicitly, since the broker's umask leaves others nothing.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "base/result.h"
#include "broker/door/listener.h"
#include "mapcap/fd.h"

namespace mapcap::broker {

/// An id, or @UID/ID of a user's. Errors: `invalid`.
Result<void> check_place(const std::string& place);
/// A read-only mount of the directory `place` in `root`, in no tree. Errors: `io`.
Result<Fd> mount_below(BorrowedFd root, const std::string& place, const std::string& path);

class EndpointDirectory {
 public:
  /// Makes the mount of mount_of(), for a broker that may not.
  using Mounter = std::function<Result<Fd>(const std::string& place)>;
  /// `socket`: the broker's own. Makes nothing yet. `refuse`: refuse_descriptors. `mounter`: empty for a broker that has
  /// CAP_SYS_ADMIN.
  EndpointDirectory(const std::string& socket, bool (*refuse)(BorrowedFd), Mounter mounter = {});

  /// "/run/mapcap/endpoints/ID"
  [[nodiscard]] std::string path_of(const std::string& place) const { return path_ + "/" + place; }

  /// Makes what is missing, and listens. What an earlier broker left there is used again, and so is `inherited`, its
  /// socket, if that is what is bound there: whoever waits in it goes on waiting. Errors: `denied` for a directory
  /// that is somebody else's, `busy` when another broker has its endpoints there, `io`.
  Result<ListeningSocket> listen(const std::string& place, Fd inherited);

  /// The socket and its directory. What is not there is fine. Errors: `io`.
  Result<void> remove(const std::string& place);

  /// A read-only mount of the directory that is in no tree: whoever has the descriptor can connect through it,
  /// and gets nowhere else, not by ".." either. Linux 5.12. On a thread: somebody may be asked for it. Errors: `io`, and the mounter's.
  [[nodiscard]] Result<Fd> mount_of(const std::string& place) const;

  /// Removes what was left of endpoints other than `known`. Foreign things stay. Errors: as listen().
  Result<void> sweep(const std::set<std::string>& known);

 private:
  Result<void> sweep_below(BorrowedFd directory, const std::string& below,
                           const std::set<std::string>& known);
  /// RUNTIME/endpoints, made if it is missing and `make` is set; not valid when it is not there.
  Result<BorrowedFd> root(bool make);

  std::string path_;
  bool (*refuse_)(BorrowedFd);
  Mounter mounter_;
  Fd root_;  ///< Locked for as long as the broker lives.
};

}  // namespace mapcap::broker
