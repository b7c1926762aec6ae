// endpoint run: another program takes this process's place, and finds the endpoint where the broker was.
//
// The broker gives a mount of the endpoint's directory that is in no tree yet. Where the kernel lets this
// process have a mount namespace of its own (root, or anybody where user namespaces are allowed), that is
// mounted over the directory of the broker's socket: whatever path the program knows, it finds this socket and
// no other. Elsewhere the program gets the mount as a descriptor and MAPCAP_SOCKET names the socket through it;
// then it is told, since the broker's own socket stays where it was.
//
// This is for programs that one runs, not against them: what keeps a program in is a container, which is given
// the endpoint's directory by a mount.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/execute.h"
#include "client/raise.h"

namespace mapcap::cli {
namespace {

bool write_file(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  return file.good();
}

/// A user namespace in which the caller is who he is.
bool enter_user_namespace() {
  const uid_t uid = ::getuid();
  const gid_t gid = ::getgid();
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  const auto itself = [](std::uint32_t id) { return std::to_string(id) + " " + std::to_string(id) + " 1"; };
  return write_file("/proc/self/setgroups", "deny") && write_file("/proc/self/uid_map", itself(uid)) &&
         write_file("/proc/self/gid_map", itself(gid));
}

/// False where this process may not; then nothing has changed that its program would notice.
bool hide_the_broker_behind(int mount, const std::string& directory) {
  if (::unshare(CLONE_NEWNS) != 0 && !enter_user_namespace()) return false;
  // Nobody else is to see what is mounted from here on.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  return ::move_mount(mount, "", AT_FDCWD, directory.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

}  // namespace

int perform(const Common& common, const EndpointRunCommand& command) {
  std::string broker = common.socket.empty() ? default_socket() : common.socket;
  Fd mount = connect(common).endpoint_directory(command.id);
  const std::size_t slash = broker.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : broker.substr(0, slash);
  std::string socket;
  if (hide_the_broker_behind(mount.get(), directory)) {
    socket = directory + "/mapcap.sock";
  } else {
    // The lowest number that a program does not expect to be something else.
    const int inherited = ::fcntl(mount.get(), F_DUPFD, 3);
    if (inherited < 0) raise(io_error("fcntl(F_DUPFD) of the endpoint's directory", errno));
    socket = "/proc/self/fd/" + std::to_string(inherited) + "/mapcap.sock";
    std::cerr << "mapcap: no mount namespace is to be had here, so the program can still find " << broker
              << " if it looks for it\n";
  }
  ::setenv("MAPCAP_SOCKET", socket.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread.
  throw not_run(command.program.front(), execute(command.program));
}

}  // namespace mapcap::cli
