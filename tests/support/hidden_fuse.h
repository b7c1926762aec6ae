// A machine without /dev/fuse, for what a test starts meanwhile.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "mapcap/fd.h"

namespace mapcap::test {

/// Of the calling thread, and of the processes that it starts, in a mount namespace of their own.
class HiddenFuse {
 public:
  HiddenFuse() : before_(::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)) {
    EXPECT_EQ(::unshare(CLONE_NEWNS), 0);
    EXPECT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    if (::access("/dev/fuse", F_OK) == 0) {
      EXPECT_EQ(::mount("/dev/null", "/dev/fuse", nullptr, MS_BIND, nullptr), 0);
    }
  }
  ~HiddenFuse() {
    // Threads that began meanwhile, a sanitizer's own too, share what setns wants for itself.
    EXPECT_EQ(::unshare(CLONE_FS), 0);
    EXPECT_EQ(::setns(before_.get(), CLONE_NEWNS), 0);
  }
  HiddenFuse(const HiddenFuse&) = delete;
  HiddenFuse& operator=(const HiddenFuse&) = delete;

 private:
  Fd before_;
};

}  // namespace mapcap::test
