// run, clone: another program takes this process's place, with grants as its descriptors from 3 up.
//
// The convention is sd_listen_fds(3): LISTEN_PID is the program's own pid, which is ours, since execvp keeps
// it.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "client/cli/broker.h"
#include "client/cli/by_path.h"
#include "client/cli/commands.h"
#include "client/cli/execute.h"
#include "client/raise.h"
#include "mapcap/error.h"

namespace mapcap::cli {
namespace {

constexpr int kFirst = 3;

[[noreturn]] void raise_errno(const std::string& what, int error) {
  raise(io_error(what, error));
}

// Moves the grants to 3, 4, ... without stepping on one another: first all out of the way, then each to its
// place.
void place(std::vector<Grant>& grants) {
  const int count = static_cast<int>(grants.size());
  std::vector<int> parked;
  for (Grant& grant : grants) {
    const int fd = std::move(grant).release();
    const int high = ::fcntl(fd, F_DUPFD_CLOEXEC, kFirst + count);
    if (high < 0) raise_errno("fcntl(F_DUPFD_CLOEXEC) of a grant", errno);
    ::close(fd);
    parked.push_back(high);
  }
  for (int i = 0; i < count; ++i) {
    // dup2 leaves the copy without CLOEXEC. What was at that number before was ours, and is not needed any
    // more.
    if (::dup2(parked[static_cast<std::size_t>(i)], kFirst + i) < 0) raise_errno("dup2 of a grant", errno);
  }
}

[[noreturn]] void replace_by(const std::vector<std::string>& program, std::vector<Grant> grants,
                             const std::vector<std::string>& names) {
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : ":") + name;
  place(grants);
  // NOLINTBEGIN(concurrency-mt-unsafe): this program has one thread.
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::setenv("LISTEN_FDS", std::to_string(names.size()).c_str(), 1);
  ::setenv("LISTEN_FDNAMES", joined.c_str(), 1);
  // NOLINTEND(concurrency-mt-unsafe)
  throw not_run(program.front(), execute(program));
}

}  // namespace

int perform(const Common& common, const RunCommand& command) {
  if (!command.paths.empty()) check_preloadable(command.program.front());
  std::vector<Grant> grants;
  std::vector<std::string> names;
  std::vector<GrantAtPath> at_paths;
  {
    Client client = connect(common);
    for (const WantedGrant& wanted : command.grants) {
      grants.push_back(client.open(wanted.name, wanted.rights));
      names.push_back(wanted.name);
    }
    for (const WantedPath& wanted : command.paths)
      at_paths.push_back({wanted.path, client.open(wanted.grant.name, wanted.grant.rights)});
  }  // the broker's connection is closed before its number may be needed
  serve_paths(std::move(at_paths));
  replace_by(command.program, std::move(grants), names);
}

int perform(const Common& common, const CloneCommand& command) {
  const bool read_only = command.rights == Access::read_only;
  const Fd file(::open(command.file.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) {
    const int error = errno;
    if (!read_only && (error == EACCES || error == EROFS || error == EPERM)) {
      throw Error(
          ErrorCode::denied,
          command.file + " cannot be opened for writing by you; add --ro for a clone that only reads");
    }
    raise_errno("open of " + command.file, error);
  }
  std::vector<Grant> grants;
  grants.push_back(connect(common).clone(file.get(), command.rights));
  // A path may hold what LISTEN_FDNAMES uses as its separator.
  std::string name = command.file.substr(command.file.rfind('/') + 1);
  for (char& c : name) {
    if (c == ':' || static_cast<unsigned char>(c) < ' ') c = '_';
  }
  replace_by(command.program, std::move(grants), {name});
}

}  // namespace mapcap::cli
