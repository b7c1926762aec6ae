#include "client/cli/new_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "client/raise.h"
#include "mapcap/error.h"

namespace mapcap::cli {
namespace {

[[noreturn]] void raise_about(const std::string& call, const std::string& path, int error) {
  raise(io_error(call + " of " + path, error));
}

std::string beside(const std::string& path) {
  const std::filesystem::path whole(path);
  return (whole.parent_path() /
          ("." + whole.filename().string().substr(0, 200) + ".mapcap-" + std::to_string(::getpid())))
      .string();
}

}  // namespace

NewFile::NewFile(const std::string& path) {
  if (path == "-") {
    fd_ = Fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
    if (!fd_.valid()) raise_about("open", path, errno);
    return;
  }
  struct stat there {};
  const bool exists = ::stat(path.c_str(), &there) == 0;
  if (exists && !S_ISREG(there.st_mode)) {
    fd_ = Fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd_.valid()) raise_about("open", path, errno);
    return;
  }
  // One that may not be written is not to be replaced either, though the directory would allow it.
  if (exists && ::access(path.c_str(), W_OK) != 0) raise_about("open", path, errno);
  std::error_code fault;
  const std::filesystem::path target = std::filesystem::weakly_canonical(path, fault);
  path_ = fault ? path : target.string();
  const std::string directory = std::filesystem::path(path_).parent_path().string();
  fd_ = Fd(::open(directory.empty() ? "." : directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666));
  if (!fd_.valid() && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    temporary_ = beside(path_);
    fd_ = Fd(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  }
  if (!fd_.valid()) {
    const int error = errno;
    temporary_.clear();
    raise_about("open", path, error);
  }
  if (exists) (void)::fchmod(fd_.get(), there.st_mode & 07777U);
}

NewFile::~NewFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void NewFile::keep() {
  if (path_.empty()) return;
  if (temporary_.empty()) {
    const std::string unnamed = "/proc/self/fd/" + std::to_string(fd_.get());
    const std::string name = beside(path_);
    ::unlink(name.c_str());  // of a process that had our number and died here
    if (::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
      raise_about("link", path_, errno);
    temporary_ = name;
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) raise_about("rename", path_, errno);
  temporary_.clear();
}

}  // namespace mapcap::cli
