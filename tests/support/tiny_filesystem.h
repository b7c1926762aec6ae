// A filesystem that a test may fill up or take away.
#pragma once

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace mapcap::test {

/// A tmpfs of its own, seen by this process and its children only. Unmounted when it goes.
class TinyFilesystem {
 public:
  explicit TinyFilesystem(const std::string& size) {
    std::string pattern = "/tmp/mapcap-tiny.XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) return;
    path_ = pattern;
    const std::string options = "size=" + size + ",mode=0755";
    mounted_ = ::unshare(CLONE_NEWNS) == 0 &&
               ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::mount("tmpfs", path_.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) == 0;
  }
  ~TinyFilesystem() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TinyFilesystem(const TinyFilesystem&) = delete;
  TinyFilesystem& operator=(const TinyFilesystem&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }
  /// False while anybody has something of it open.
  [[nodiscard]] bool unmount() { return !(mounted_ = ::umount2(path_.c_str(), 0) != 0); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

}  // namespace mapcap::test
