// The confiners that need no keeper.
#include <sys/syscall.h>

#include <cerrno>

#include "broker/confine/native.h"
#include "broker/confine/sealed.h"
#include "tests/support/keeper_harness.h"

namespace mapcap::test {
namespace {

using broker::confine::Backing;

constexpr ByteCount kSize{8192};

class UntrackedConfiner : public KeeperTest {
 protected:
  static Task<Result<Issued>> issue(Confiner& confiner, Access rights) {
    co_return co_await confiner.issue(RegionId{1}, label(kSize, rights));
  }
};

// Promise 2, as far as sealed goes: rights hold, also against reopening.
TEST_F(UntrackedConfiner, SealedGrantsAreFreshOpensWithTheirRights) {
  drive([&](Loop&) -> Task<void> {
    const auto confiner = broker::confine::make_sealed();
    EXPECT_FALSE(confiner->tracks_grants());
    const Fd fd = memory(kSize);
    EXPECT_EQ(::fchmod(fd.get(), 0777), 0);
    CO_ASSERT(confiner->attach(RegionId{1}, fd.borrow(), kSize));
    auto read_only = co_await issue(*confiner, Access::read_only);
    auto read_write = co_await issue(*confiner, Access::read_write);
    CO_ASSERT(read_only && read_write);
    EXPECT_EQ(read_only.value().grant, 0U);
    EXPECT_EQ(::write(read_only.value().fd.get(), "x", 1), -1);
    EXPECT_EQ(::mmap(nullptr, kSize.value, PROT_WRITE, MAP_SHARED, read_only.value().fd.get(), 0),
              MAP_FAILED);
    EXPECT_EQ(::write(read_write.value().fd.get(), "x", 1), 1);
    EXPECT_EQ(::lseek(read_only.value().fd.get(), 0, SEEK_CUR), 0);
    if (::geteuid() == 0) {
      const std::string link = "/proc/self/fd/" + std::to_string(read_only.value().fd.get());
      const pid_t child = ::fork();
      if (child == 0) {
        const bool stranger = ::setgid(65534) == 0 && ::setuid(65534) == 0;
        ::_exit(stranger && ::open(link.c_str(), O_RDWR) == -1 && errno == EACCES ? 0 : 1);
      }
      int status = -1;
      EXPECT_EQ(::waitpid(child, &status, 0), child);
      EXPECT_EQ(status, 0);
    }
    confiner->detach(RegionId{1});
    auto gone = co_await issue(*confiner, Access::read_only);
    CO_ASSERT(!gone);
    EXPECT_EQ(gone.error().code, ErrorCode::invalid);
  });
}

TEST_F(UntrackedConfiner, NativeRefusesWhatCanBeReadAndWritten) {
  const auto confiner = broker::confine::make_native();
  const Fd memfd = memory(kSize);
  const Fd null(::open("/dev/zero", O_RDWR | O_CLOEXEC));
  const Fd sysfs(::open("/sys/kernel/uevent_seqnum", O_RDONLY | O_CLOEXEC));
  for (const Fd* fd : {&memfd, &null, &sysfs}) {
    if (!fd->valid()) continue;
    const auto attached = confiner->attach(RegionId{1}, fd->borrow(), kSize);
    ASSERT_FALSE(attached);
    EXPECT_EQ(attached.error().code, ErrorCode::unsupported);
  }
}

TEST_F(UntrackedConfiner, NativeIssuesSecretMemoryReadWriteOnly) {
  const Fd secret(static_cast<int>(::syscall(SYS_memfd_secret, O_CLOEXEC)));
  if (!secret.valid()) GTEST_SKIP() << "memfd_secret: not enabled in this kernel (secretmem.enable=1)";
  ASSERT_EQ(::ftruncate(secret.get(), kSize.value), 0);
  drive([&](Loop&) -> Task<void> {
    const auto confiner = broker::confine::make_native();
    CO_ASSERT(confiner->attach(RegionId{1}, secret.borrow(), kSize));
    auto read_only = co_await issue(*confiner, Access::read_only);
    CO_ASSERT(!read_only);
    EXPECT_EQ(read_only.error().code, ErrorCode::unsupported);
    auto read_write = co_await issue(*confiner, Access::read_write);
    CO_ASSERT(read_write);
    char byte = 0;
    EXPECT_EQ(::read(read_write.value().fd.get(), &byte, 1), -1);
    void* map =
        ::mmap(nullptr, kSize.value, PROT_READ | PROT_WRITE, MAP_SHARED, read_write.value().fd.get(), 0);
    EXPECT_NE(map, MAP_FAILED);
    ::munmap(map, kSize.value);
  });
}

}  // namespace
}  // namespace mapcap::test
