// What a holder gets from the keeper: an mmap-only descriptor that says what it is.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "tests/support/attributes.h"
#include "tests/support/keeper_harness.h"

namespace mapcap::test {
namespace {

constexpr ByteCount kSize{16384};

class KeeperIssue : public KeeperTest {
 protected:
  /// Starts a keeper, attaches region 1 and issues one grant for it.
  void with_grant(Access rights, std::function<Task<void>(Loop&, Keeper&, BorrowedFd, Issued&)> body) {
    drive([&, rights](Loop& loop) -> Task<void> {
      auto keeper = start();
      CO_ASSERT(keeper != nullptr);
      keeper->attach(loop);
      const Fd fd = memory(kSize);
      const auto attached = keeper->clone().attach(RegionId{1}, fd.borrow(), kSize);
      CO_ASSERT(attached);
      auto issued = co_await keeper->clone().issue(RegionId{1}, label(kSize, rights));
      if (!issued) ADD_FAILURE() << issued.error().sentence;
      if (issued) co_await body(loop, *keeper, fd.borrow(), issued.value());
      keeper->shut_down();
    });
  }
};

// Promise 1
TEST_F(KeeperIssue, ReadWriteGrantMapsTheRegionAndNothingElseWorks) {
  REQUIRE_CLONES();
  with_grant(Access::read_write, [](Loop&, Keeper&, BorrowedFd backing, Issued& issued) -> Task<void> {
    const int fd = issued.fd.get();
    void* map = ::mmap(nullptr, kSize.value, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CO_ASSERT(map != MAP_FAILED);
    std::memcpy(map, "stored", 6);
    std::array<char, 6> seen{};
    EXPECT_EQ(::pread(backing.get(), seen.data(), seen.size(), 0), 6);
    EXPECT_EQ(std::memcmp(seen.data(), "stored", 6), 0);

    const auto refused = [](long result, int expected) { return result == -1 && errno == expected; };
    EXPECT_TRUE(refused(::read(fd, seen.data(), 1), EPERM));
    EXPECT_TRUE(refused(::write(fd, "x", 1), EPERM));
    EXPECT_TRUE(refused(::ftruncate(fd, 0), EPERM));
    EXPECT_TRUE(refused(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EPERM));
    EXPECT_TRUE(refused(::fchmod(fd, 0666), EPERM));
    EXPECT_TRUE(refused(::fsetxattr(fd, "system.mapcap.name", "x", 1, 0), EOPNOTSUPP));
    int flags = 0;
    EXPECT_TRUE(refused(::ioctl(fd, FS_IOC_GETFLAGS, &flags), EPERM));
    // The append flag on the backing (FACTS: where the filesystem has one) is what refuses this one.
    EXPECT_TRUE(refused(::madvise(map, 4096, MADV_REMOVE), EPERM));
    ::munmap(map, kSize.value);
    co_return;
  });
}

// Promise 2
TEST_F(KeeperIssue, ReadOnlyGrantNeverBecomesWritable) {
  REQUIRE_CLONES();
  with_grant(Access::read_only, [](Loop&, Keeper&, BorrowedFd, Issued& issued) -> Task<void> {
    const int fd = issued.fd.get();
    EXPECT_EQ(::mmap(nullptr, kSize.value, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    void* map = ::mmap(nullptr, kSize.value, PROT_READ, MAP_SHARED, fd, 0);
    CO_ASSERT(map != MAP_FAILED);
    EXPECT_EQ(::mprotect(map, kSize.value, PROT_READ | PROT_WRITE), -1);
    EXPECT_EQ(::mprotect(map, kSize.value, PROT_READ | PROT_EXEC), -1);
    ::munmap(map, kSize.value);
    co_return;
  });
}

// Promises 1 and 2: not even root's other processes, and not by reopening.
TEST_F(KeeperIssue, NobodyElseOpensAGrantAgain) {
  REQUIRE_CLONES();
  with_grant(Access::read_write, [](Loop&, Keeper&, BorrowedFd, Issued& issued) -> Task<void> {
    const std::string link = "/proc/self/fd/" + std::to_string(issued.fd.get());
    for (const int mode : {O_RDONLY, O_RDWR, O_WRONLY}) {
      EXPECT_EQ(::open(link.c_str(), mode | O_CLOEXEC), -1);
    }
    const pid_t child = ::fork();
    if (child == 0) {
      const bool stranger = ::setgid(65534) == 0 && ::setuid(65534) == 0;
      const bool refused = ::open(link.c_str(), O_RDONLY) == -1 && errno == EACCES;
      ::_exit(stranger && refused ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    co_return;
  });
}

// Promise 3
TEST_F(KeeperIssue, GrantHasTheSizeOfItsRegion) {
  REQUIRE_CLONES();
  with_grant(Access::read_only, [](Loop&, Keeper&, BorrowedFd, Issued& issued) -> Task<void> {
    struct stat status {};
    EXPECT_EQ(::fstat(issued.fd.get(), &status), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), kSize.value);
    EXPECT_EQ(status.st_uid, 0U);
    EXPECT_EQ(status.st_mode, static_cast<mode_t>(S_IFREG | 0600));
    co_return;
  });
}

// Promise 10: a grant is self-describing, without the broker, for the holder's own uid.
TEST_F(KeeperIssue, GrantTellsWhatItIsToAnUnprivilegedHolder) {
  REQUIRE_CLONES();
  with_grant(Access::read_only, [](Loop&, Keeper&, BorrowedFd, Issued& issued) -> Task<void> {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(100);
      const std::array<std::pair<const char*, const char*>, 8> expected = {{
          {"system.mapcap.name", "alice/frames"},
          {"system.mapcap.size", "16384"},
          {"system.mapcap.rights", "ro"},
          {"system.mapcap.cache.requested", "wc"},
          {"system.mapcap.cache.effective", "wb"},
          {"system.mapcap.durability", "none volatile"},
          {"system.mapcap.confinement", "clone"},
          {"system.mapcap.published", "no"},
      }};
      int wrong = 0;
      for (const auto& [name, value] : expected) {
        if (attribute_text(issued.fd.borrow(), name) != value) ++wrong;
      }
      ::_exit(wrong);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 0) << "attributes that differ";

    const BorrowedFd fd = issued.fd.borrow();
    EXPECT_EQ(attribute_text(fd, "system.mapcap.nothing"), "!" + std::to_string(ENODATA));
    std::array<char, 4> small{};
    EXPECT_EQ(::fgetxattr(fd.get(), "system.mapcap.name", small.data(), small.size()), -1);
    EXPECT_EQ(errno, ERANGE);
    EXPECT_EQ(::fgetxattr(fd.get(), "system.mapcap.name", nullptr, 0), 12);
    std::array<char, 512> names{};
    const ssize_t length = ::flistxattr(fd.get(), names.data(), names.size());
    CO_ASSERT(length > 0);
    EXPECT_EQ(std::count(names.begin(), names.begin() + length, '\0'), 8);
    EXPECT_STREQ(names.data(), "system.mapcap.name");
  });
}

TEST_F(KeeperIssue, GrantsOfARegionShareNeitherOffsetNorLocksNorIdentity) {
  REQUIRE_CLONES();
  with_grant(Access::read_write, [](Loop&, Keeper& keeper, BorrowedFd, Issued& first) -> Task<void> {
    auto second = co_await keeper.clone().issue(RegionId{1}, label(kSize, Access::read_write));
    CO_ASSERT(second);
    EXPECT_NE(first.grant, second.value().grant);
    EXPECT_EQ(::lseek(first.fd.get(), 100, SEEK_SET), 100);
    EXPECT_EQ(::lseek(second.value().fd.get(), 0, SEEK_CUR), 0);
    struct flock lock {};
    lock.l_type = F_WRLCK;
    EXPECT_EQ(::fcntl(first.fd.get(), F_OFD_SETLK, &lock), 0);
    lock = {};
    lock.l_type = F_WRLCK;
    EXPECT_EQ(::fcntl(second.value().fd.get(), F_OFD_SETLK, &lock), 0);
  });
}

TEST_F(KeeperIssue, NothingShowsInTheMountTable) {
  REQUIRE_CLONES();
  with_grant(Access::read_write, [](Loop&, Keeper&, BorrowedFd, Issued&) -> Task<void> {
    Fd table(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
    std::string text(1 << 16, '\0');
    const ssize_t got = ::read(table.get(), text.data(), text.size());
    CO_ASSERT(got > 0);
    EXPECT_EQ(text.find("fuse mapcap"), std::string::npos);
    co_return;
  });
}

TEST_F(KeeperIssue, RegionThatIsNotAttachedIsRefused) {
  REQUIRE_CLONES();
  with_grant(Access::read_write, [](Loop&, Keeper& keeper, BorrowedFd, Issued&) -> Task<void> {
    auto none = co_await keeper.clone().issue(RegionId{77}, label(kSize, Access::read_write));
    CO_ASSERT(!none);
    EXPECT_EQ(none.error().code, ErrorCode::invalid);
    keeper.clone().detach(RegionId{1});
    auto gone = co_await keeper.clone().issue(RegionId{1}, label(kSize, Access::read_write));
    CO_ASSERT(!gone);
    EXPECT_EQ(gone.error().code, ErrorCode::invalid);
  });
}

TEST_F(KeeperIssue, BackingThatCannotBeClonedIsUnsupported) {
  REQUIRE_CLONES();
  with_grant(Access::read_write, [](Loop&, Keeper& keeper, BorrowedFd, Issued& issued) -> Task<void> {
    const auto attached = keeper.clone().attach(RegionId{2}, issued.fd.borrow(), kSize);
    CO_ASSERT(!attached);
    EXPECT_EQ(attached.error().code, ErrorCode::unsupported);
    co_return;
  });
}

TEST_F(KeeperIssue, ForeignFileKeepsItsFlags) {
  REQUIRE_CLONES();
  with_grant(Access::read_write, [](Loop&, Keeper& keeper, BorrowedFd, Issued&) -> Task<void> {
    const Fd file = memory(kSize);
    const auto attached =
        keeper.clone().attach(RegionId{2}, file.borrow(), kSize, broker::confine::Backing::foreign);
    CO_ASSERT(attached);
    EXPECT_FALSE(keeper.clone().guards_holes(RegionId{2}));
    EXPECT_TRUE(keeper.clone().guards_holes(RegionId{1}));
    int flags = 0;
    EXPECT_EQ(::ioctl(file.get(), FS_IOC_GETFLAGS, &flags), 0);
    EXPECT_EQ(flags & FS_APPEND_FL, 0);
    co_return;
  });
}

}  // namespace
}  // namespace mapcap::test
