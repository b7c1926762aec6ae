// A FUSE filesystem of one file, whose server leaves callers waiting: what any user can mount.
#pragma once

#include <sys/types.h>

#include <functional>

namespace mapcap::test {

class HostileFilesystem {
 public:
  /// The server answers so many FLUSHes (one comes with each close of the file) and keeps all later ones
  /// waiting, and every READ. `client` runs beside it in a process of user `uid`, with the file open, until the server ends.
  HostileFilesystem(int flushes, uid_t uid, std::function<void(int fd)> client);
  /// Ends the server, and with it every wait for it.
  ~HostileFilesystem();
  HostileFilesystem(const HostileFilesystem&) = delete;
  HostileFilesystem& operator=(const HostileFilesystem&) = delete;

  /// False where nothing can be mounted.
  [[nodiscard]] bool mounted() const { return mounted_; }
  /// Waits until the client has returned from `client`, at most 20 s.
  [[nodiscard]] bool client_is_done() const;

 private:
  pid_t server_ = 0;
  int news_ = -1;  ///< A byte each: mounted, the client is done.
  bool mounted_ = false;
};

}  // namespace mapcap::test
