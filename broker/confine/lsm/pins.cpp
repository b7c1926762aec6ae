#include "broker/confine/lsm/pins.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace mapcap::broker::confine::lsm {

Result<Fd> claim_pins(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path();
  struct statfs filesystem {};
  if (::statfs(parent.c_str(), &filesystem) != 0 ||
      static_cast<unsigned long>(filesystem.f_type) != BPF_FS_MAGIC) {
    return failure(ErrorCode::unsupported,
                   "no BPF filesystem is mounted at " + parent + "; mount -t bpf bpf " + parent);
  }
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return io_error("making " + path, errno);
  Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory.valid()) return io_error("opening " + path, errno);
  struct stat status {};
  if (::fstat(directory.get(), &status) != 0) return io_error("fstat of " + path, errno);
  // /sys/fs/bpf itself is open to everybody who may make BPF objects.
  if (status.st_uid != 0 || (status.st_mode & 0077U) != 0) {
    return failure(ErrorCode::denied,
                   path +
                       " must be root's with mode 0700, or others could end the confinement of "
                       "grants: find out who made it, and remove it");
  }
  if (::flock(directory.get(), LOCK_EX) != 0) return io_error("locking " + path, errno);
  return directory;
}

Result<Fd> find_pin(const std::string& path) {
  Fd found(bpf_obj_get(path.c_str()));
  if (!found.valid() && errno != ENOENT) return io_error("opening " + path, errno);
  return found;
}

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  std::error_code failed;
  for (auto entry = std::filesystem::directory_iterator(path, failed);
       !failed && entry != std::filesystem::directory_iterator(); entry.increment(failed)) {
    names.push_back(entry->path().filename());
  }
  return names;
}

Result<void> remove_pins(const std::string& path) {
  for (const std::string& name : names_in(path)) {
    const std::string pin = path + "/" + name;
    if (::unlink(pin.c_str()) != 0) return io_error("removing " + pin, errno);
  }
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT) return io_error("removing " + path, errno);
  return ok();
}

}  // namespace mapcap::broker::confine::lsm
