// Grants and mappings, on plain memfds and ordinary files: what they are made of does not matter here.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

#include "mapcap/mapcap.h"
#include "schema/channel.h"

namespace mapcap {
namespace {

constexpr std::size_t kSize = 4 * 4096;

Fd memfd(std::size_t size = kSize) {
  Fd fd(::memfd_create("mapping-test", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

Grant grant_with(Durability durability, CacheStatus cache = {}) {
  RegionInfo info;
  info.name = "a/b";
  info.size = kSize;
  info.durability = durability;
  info.cache = cache;
  return Grant(memfd(), Access::read_write, std::move(info));
}

template <typename Call>
ErrorCode code_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::malformed;
}

// ---- Mapping

// Promise 10: whoever stores is told by what the store became durable, or that it did not.
TEST(MappingPersist, EachGranularityIsToldAsItIs) {
  for (Granularity granularity :
       {Granularity::none, Granularity::page, Granularity::cache_line, Granularity::byte}) {
    const Grant grant = grant_with({granularity, PersistenceDomain::memory_controller, false});
    Mapping mapping(grant);
    mapping.writable()[100] = std::byte{1};
    EXPECT_EQ(mapping.persist(100, 1), granularity);
    EXPECT_EQ(mapping.flush(0, kSize), granularity);
    mapping.drain();
    EXPECT_EQ(mapping.persist(), granularity);
  }
}

TEST(MappingPersist, CopiesAndFillsLandWhateverTheMeans) {
  const CacheStatus discipline{CacheMode::write_through, true, CacheMode::write_through,
                               CacheMechanism::store_discipline, false};
  const CacheStatus combining{CacheMode::write_combining, true, CacheMode::write_combining,
                              CacheMechanism::page_attribute, true};
  std::array<std::byte, 5000> source{};
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7);
  for (const CacheStatus& cache : {CacheStatus{}, discipline, combining}) {
    for (Granularity granularity :
         {Granularity::none, Granularity::page, Granularity::cache_line, Granularity::byte}) {
      const Grant grant = grant_with({granularity, PersistenceDomain::memory_controller, false}, cache);
      Mapping mapping(grant);
      mapping.memcpy_persist(33, source);  // neither end is aligned to anything
      mapping.memset_persist(33 + source.size(), std::byte{0xee}, 10);
      const auto bytes = mapping.bytes();
      EXPECT_EQ(bytes[32], std::byte{0});
      EXPECT_TRUE(std::equal(source.begin(), source.end(), bytes.begin() + 33));
      EXPECT_EQ(bytes[33 + source.size() + 9], std::byte{0xee});
      EXPECT_EQ(bytes[33 + source.size() + 10], std::byte{0});
    }
  }
}

TEST(MappingPersist, ARangeOutsideTheMappingIsInvalidAtBothEdges) {
  const Grant grant = grant_with({Granularity::page, PersistenceDomain::block_device, false});
  Mapping mapping(grant);
  EXPECT_NO_THROW(mapping.persist(kSize, 0));
  EXPECT_NO_THROW(mapping.persist(0, kSize));
  EXPECT_EQ(code_of([&] { mapping.persist(kSize, 1); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { mapping.persist(1, kSize); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { mapping.persist(SIZE_MAX, 2); }), ErrorCode::invalid);
}

TEST(MappingPersist, AFileThatMustBeSyncedIsSynced) {
  char path[] = "/tmp/mapcap-mapping-XXXXXX";
  Fd file(::mkostemp(path, O_CLOEXEC));
  ASSERT_EQ(::unlink(path), 0);
  ASSERT_EQ(::ftruncate(file.get(), kSize), 0);
  RegionInfo info;
  info.size = kSize;
  info.durability = {Granularity::page, PersistenceDomain::block_device, false};
  const Grant grant(std::move(file), Access::read_write, std::move(info));
  Mapping mapping(grant);
  const std::array<std::byte, 3> stored{std::byte{1}, std::byte{2}, std::byte{3}};
  EXPECT_EQ(mapping.memcpy_persist(4095, stored), Granularity::page);
  std::array<std::byte, 3> read{};
  EXPECT_EQ(::pread(grant.fd(), read.data(), read.size(), 4095), 3);
  EXPECT_EQ(read, stored);
}

// Promise 2: the library does not even try.
TEST(MappingRights, AReadOnlyGrantCannotBeStoredTo) {
  const Fd fd = memfd();
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  const Grant grant = Grant::adopt(Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
  EXPECT_EQ(grant.rights(), Access::read_only);
  Mapping mapping(grant);
  EXPECT_EQ(code_of([&] { static_cast<void>(mapping.writable()); }), ErrorCode::denied);
  EXPECT_EQ(code_of([&] { mapping.memset_persist(0, std::byte{1}, 1); }), ErrorCode::denied);
  EXPECT_EQ(code_of([&] { Mapping(grant, Access::read_write); }), ErrorCode::denied);
}

TEST(MappingAccess, ObjectsAreCheckedForBoundsAndAlignment) {
  const Grant grant = grant_with({});
  Mapping mapping(grant);
  *mapping.writable_at<std::uint64_t>(kSize - 8) = 5;
  EXPECT_EQ(*mapping.at<std::uint64_t>(kSize - 8), 5U);
  EXPECT_EQ(code_of([&] { static_cast<void>(mapping.at<std::uint64_t>(kSize - 7)); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { static_cast<void>(mapping.at<std::uint64_t>(4)); }), ErrorCode::invalid);
}

TEST(MappingAccess, AMoveLeavesTheMemoryMappedOnceAndADestructorUnmapsIt) {
  const Grant grant = grant_with({Granularity::cache_line, PersistenceDomain::memory_controller, false});
  const std::byte* address = nullptr;
  {
    Mapping first(grant);
    address = first.bytes().data();
    Mapping second(std::move(first));
    EXPECT_EQ(second.bytes().data(), address);
    Mapping third(grant);
    third = std::move(second);
    EXPECT_EQ(third.bytes().data(), address);
    EXPECT_EQ(third.persist(), Granularity::cache_line);
  }
  unsigned char resident = 0;
  EXPECT_EQ(::mincore(const_cast<std::byte*>(address), 4096, &resident), -1);
  EXPECT_EQ(errno, ENOMEM);
}

// ---- Grant

TEST(GrantAdopt, AMemfdHasItsSizeAndIsVolatile) {
  const Grant grant = Grant::adopt(memfd(8192));
  EXPECT_EQ(grant.size(), 8192U);
  EXPECT_EQ(grant.rights(), Access::read_write);
  EXPECT_EQ(grant.info().durability.granularity, Granularity::none);
}

TEST(GrantAdopt, WhatCannotBeMappedIsInvalid) {
  const Fd fd = memfd();
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  EXPECT_EQ(code_of([&] { Grant::adopt(Fd(::open(path.c_str(), O_PATH | O_CLOEXEC))); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { Grant::adopt(Fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC))); }),
            ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { Grant::adopt(memfd(0)); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { Grant::adopt(Fd(-1)); }), ErrorCode::io);
}

TEST(GrantDescribe, AFileWithoutAttributesDescribesNothing) {
  EXPECT_FALSE(describe(memfd().get()).has_value());
  EXPECT_EQ(code_of([] { describe(-1); }), ErrorCode::io);
}

TEST(GrantSend, AGrantArrivesWithItsRights) {
  auto ends = schema::socket_pair();
  ASSERT_TRUE(ends.has_value());
  const Grant sent = Grant::adopt(memfd());
  Mapping(sent).writable()[7] = std::byte{7};
  sent.send(ends.value().first.get());
  const Grant received = Grant::receive(ends.value().second.get());
  EXPECT_EQ(received.rights(), Access::read_write);
  EXPECT_EQ(Mapping(received).bytes()[7], std::byte{7});
}

TEST(GrantSend, TwoDescriptorsAreNoGrantAndNeitherStaysOpen) {
  auto ends = schema::socket_pair();
  ASSERT_TRUE(ends.has_value());
  const Fd fd = memfd();
  const std::array<std::byte, 1> byte{};
  const std::array<BorrowedFd, 2> two{BorrowedFd(fd.get()), BorrowedFd(fd.get())};
  ASSERT_TRUE(schema::send(ends.value().first.borrow(), byte, two).has_value());
  const Fd next(::dup(fd.get()));
  EXPECT_EQ(code_of([&] { Grant::receive(ends.value().second.get()); }), ErrorCode::malformed);
  const Fd after(::dup(fd.get()));
  EXPECT_EQ(after.get(), next.get() + 1) << "a descriptor was left behind";
}

TEST(GrantSend, AClosedPeerIsUnavailable) {
  auto ends = schema::socket_pair();
  ASSERT_TRUE(ends.has_value());
  ends.value().first.reset();
  EXPECT_EQ(code_of([&] { Grant::receive(ends.value().second.get()); }), ErrorCode::unavailable);
}

// ---- inherited

// Runs `check` in a child that was started as `mapcap run` starts programs; it returns 0 when all is well.
template <typename Check>
int in_started_child(const char* names, int count, bool right_pid, Check check) {
  const Fd fd = memfd(8192);
  const pid_t child = ::fork();
  if (child == 0) {
    for (int i = 0; i < count; ++i) ::dup2(fd.get(), 3 + i);
    ::setenv("LISTEN_PID", std::to_string(right_pid ? ::getpid() : ::getpid() + 1).c_str(), 1);
    ::setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
    ::setenv("LISTEN_FDNAMES", names, 1);
    int code = 100;
    try {
      code = check();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(InheritedGrants, AreFoundByNameAndByLastComponentAndTakenOnce) {
  EXPECT_EQ(in_started_child("alice/in:alice/out", 2, true,
                             [] {
                               if (inherited().size() != 2) return 1;
                               const Grant out = inherited("alice/out");
                               if (out.fd() != 4 || out.size() != 8192) return 2;
                               const Grant in = inherited("in");
                               if (in.fd() != 3) return 3;
                               try {
                                 inherited("in");
                               } catch (const Error& error) {
                                 return error.code() == ErrorCode::not_found ? 0 : 4;
                               }
                               return 5;
                             }),
            0);
}

TEST(InheritedGrants, AnAmbiguousLastComponentIsNotGuessed) {
  EXPECT_EQ(in_started_child("alice/x:bob/x", 2, true,
                             [] {
                               try {
                                 inherited("x");
                               } catch (const Error& error) {
                                 return error.code() == ErrorCode::not_found ? 0 : 1;
                               }
                               return 2;
                             }),
            0);
}

TEST(InheritedGrants, OfAnotherProcessAreNotOurs) {
  EXPECT_EQ(in_started_child("alice/x", 1, false, [] { return inherited().empty() ? 0 : 1; }), 0);
}

// ---- the guard

// Taking the memory away from under a mapping is what revoking a `revocable` region does.
class GuardedMapping : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "ThreadSanitizer: it calls handlers from within its own runtime, which a siglongjmp must "
                    "not leave";
#endif
  }
  void revoke() const {
    ASSERT_EQ(::ftruncate(grant.fd(), 0), 0);
  }

  Grant grant = Grant::adopt(memfd());
  Mapping mapping{grant};
};

// Promise 5, for a holder who wants to live on.
TEST_F(GuardedMapping, ATouchAfterTheRevokeReturnsInsteadOfKilling) {
  std::array<std::byte, 16> copy{};
  EXPECT_EQ(try_read(mapping, 0, copy), Touch::done);
  EXPECT_EQ(try_write(mapping, 0, copy), Touch::done);
  revoke();
  EXPECT_EQ(try_read(mapping, 0, copy), Touch::revoked);
  EXPECT_EQ(try_write(mapping, kSize - 16, copy), Touch::revoked);
}

TEST_F(GuardedMapping, OwnCodeIsLeftAtTheFault) {
  revoke();
  volatile int before = 0;
  volatile int after = 0;
  const Touch touch = guarded(mapping.bytes(), [&]() noexcept {
    before = 1;
    static_cast<void>(*const_cast<const volatile std::byte*>(mapping.bytes().data()));
    after = 1;
  });
  EXPECT_EQ(touch, Touch::revoked);
  EXPECT_EQ(before, 1);
  EXPECT_EQ(after, 0);
}

TEST_F(GuardedMapping, ItWorksAgainAndAgain) {
  revoke();
  std::array<std::byte, 1> copy{};
  for (int i = 0; i < 100; ++i) ASSERT_EQ(try_read(mapping, 0, copy), Touch::revoked);
}

TEST_F(GuardedMapping, AHandlerInstalledOverOursMayBlockSignalsMeanwhile) {
  install_guard();
  static struct sigaction ours {};
  struct sigaction over {};
  over.sa_sigaction = [](int number, siginfo_t* info, void* context) {
    ours.sa_sigaction(number, info, context);
  };
  over.sa_flags = SA_SIGINFO;  // No SA_NODEFER: SIGBUS is blocked while it runs, and so is everything else.
  sigfillset(&over.sa_mask);
  ASSERT_EQ(::sigaction(SIGBUS, &over, &ours), 0);
  revoke();
  std::byte byte{};
  for (int times = 0; times < 3; ++times) EXPECT_EQ(try_read(mapping, 0, {&byte, 1}), Touch::revoked);
  sigset_t mask;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(sigismember(&mask, SIGBUS), 0);
  EXPECT_EQ(sigismember(&mask, SIGHUP), 0);
  ::sigaction(SIGBUS, &ours, nullptr);
}

TEST_F(GuardedMapping, AnInnerGuardOfAnotherMappingLeavesTheFaultToTheOuter) {
  const Grant other_grant = Grant::adopt(memfd());
  const Mapping other(other_grant);
  revoke();
  volatile bool inner_returned = false;
  const Touch touch = guarded(mapping.bytes(), [&]() noexcept {
    static_cast<void>(guarded(other.bytes(), [&]() noexcept {
      static_cast<void>(*const_cast<const volatile std::byte*>(mapping.bytes().data()));
    }));
    inner_returned = true;
  });
  EXPECT_EQ(touch, Touch::revoked);
  EXPECT_FALSE(inner_returned);
  // The inner frame is gone with the outer: the next guard starts clean.
  std::array<std::byte, 1> copy{};
  EXPECT_EQ(try_read(other, 0, copy), Touch::done);
}

TEST_F(GuardedMapping, ThreadsAreGuardedEachForItself) {
  revoke();
  std::atomic<int> revoked = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      std::array<std::byte, 1> copy{};
      for (int n = 0; n < 100; ++n) revoked += try_read(mapping, 0, copy) == Touch::revoked ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(revoked, 800);
}

TEST_F(GuardedMapping, PersistingARevokedMappingIsAnError) {
  RegionInfo info = grant.info();
  info.durability = {Granularity::cache_line, PersistenceDomain::memory_controller, false};
  const Grant durable(Fd(::dup(grant.fd())), Access::read_write, std::move(info));
  Mapping pmem(durable);
  pmem.memset_persist(0, std::byte{1}, kSize);
  revoke();
  EXPECT_EQ(code_of([&] { pmem.memset_persist(0, std::byte{1}, 1); }), ErrorCode::revoked);
  EXPECT_EQ(code_of([&] { pmem.memcpy_persist(0, std::array<std::byte, 1>{}); }), ErrorCode::revoked);
}

TEST_F(GuardedMapping, PersistAndFlushOfARevokedMappingAreErrorsWhateverItsGranularity) {
  std::vector<Mapping> mappings;
  for (Granularity granularity :
       {Granularity::none, Granularity::page, Granularity::cache_line, Granularity::byte}) {
    RegionInfo info = grant.info();
    info.durability = {granularity, PersistenceDomain::memory_controller, false};
    const Grant told(Fd(::dup(grant.fd())), Access::read_write, std::move(info));
    mappings.emplace_back(told);
    EXPECT_EQ(mappings.back().persist(), granularity);
  }
  mappings.emplace_back(grant, Access::read_only);
  revoke();
  for (Mapping& each : mappings) {
    EXPECT_EQ(code_of([&] { each.persist(); }), ErrorCode::revoked);
    EXPECT_EQ(code_of([&] { each.flush(kSize - 1, 1); }), ErrorCode::revoked);
    EXPECT_NO_THROW(each.persist(kSize, 0)) << "nothing was asked for";
  }
}

TEST_F(GuardedMapping, AMappingThatWasMovedFromHasNoBytesAndDoesNothing) {
  Mapping taken(std::move(mapping));
  EXPECT_NO_THROW(mapping.memcpy_persist(0, {}));
  EXPECT_NO_THROW(mapping.memset_persist(0, std::byte{1}, 0));
  EXPECT_NO_THROW(mapping.persist());
  EXPECT_EQ(code_of([&] { mapping.memcpy_persist(0, std::array<std::byte, 1>{}); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { mapping.memset_persist(0, std::byte{1}, 1); }), ErrorCode::invalid);
  mapping = std::move(taken);
}

TEST_F(GuardedMapping, ARangeOutsideIsRefusedBeforeAnythingIsTouched) {
  std::array<std::byte, 2> copy{};
  EXPECT_EQ(code_of([&] { static_cast<void>(try_read(mapping, kSize - 1, copy)); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { static_cast<void>(try_write(mapping, SIZE_MAX, copy)); }), ErrorCode::invalid);
}

// A child, because its end is the point: returns the signal that ended it, or minus its exit code.
template <typename Code>
int end_of_child(Code code) {
  const pid_t child = ::fork();
  if (child == 0) {
    code();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

void touch_bare(const Mapping& mapping) {
  static_cast<void>(*const_cast<const volatile std::byte*>(mapping.bytes().data()));
}

TEST_F(GuardedMapping, AnUnguardedTouchStillKills) {
#ifdef MAPCAP_SANITIZED
  GTEST_SKIP() << "MAPCAP_SANITIZED: sanitizers take SIGBUS before the default does";
#endif
  revoke();
  EXPECT_EQ(end_of_child([&] {
              install_guard();
              touch_bare(mapping);
            }),
            SIGBUS);
}

TEST_F(GuardedMapping, AnEarlierHandlerGetsWhatIsNotOurs) {
  revoke();
  EXPECT_EQ(end_of_child([&] {
              struct sigaction theirs {};
              theirs.sa_sigaction = [](int, siginfo_t* info, void*) {
                ::_exit(info->si_addr != nullptr ? 42 : 1);
              };
              theirs.sa_flags = SA_SIGINFO;
              ::sigaction(SIGBUS, &theirs, nullptr);
              install_guard();
              std::array<std::byte, 1> copy{};
              if (try_read(mapping, 0, copy) != Touch::revoked) ::_exit(2);
              touch_bare(mapping);
            }),
            -42);
}

// Installs a handler over whatever is there, which chains to that.
template <int number>
void install_chaining() {
  static struct sigaction below {};
  struct sigaction over {};
  over.sa_sigaction = [](int signal, siginfo_t* info, void* context) {
    if ((below.sa_flags & SA_SIGINFO) != 0) return below.sa_sigaction(signal, info, context);
    ::signal(SIGBUS, SIG_DFL);
  };
  over.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &over, &below);
}

TEST_F(GuardedMapping, InstalledAgainOverHandlersThatChainToItTheFaultGoesOnceThroughEach) {
  revoke();
  EXPECT_EQ(end_of_child([&] {
              struct sigaction oldest {};
              oldest.sa_sigaction = [](int, siginfo_t*, void*) { ::_exit(42); };
              oldest.sa_flags = SA_SIGINFO;
              ::sigaction(SIGBUS, &oldest, nullptr);
              install_guard();
              install_chaining<1>();
              install_guard();
              install_chaining<2>();
              install_guard();
              install_guard();
              std::array<std::byte, 1> copy{};
              if (try_read(mapping, 0, copy) != Touch::revoked) ::_exit(2);
              touch_bare(mapping);
            }),
            -42);
}

TEST_F(GuardedMapping, WhereNobodyWasBeforeAChainOfHandlersEndsInTheDefault) {
#ifdef MAPCAP_SANITIZED
  GTEST_SKIP() << "MAPCAP_SANITIZED: sanitizers take SIGBUS before the default does";
#endif
  revoke();
  EXPECT_EQ(end_of_child([&] {
              ::signal(SIGBUS, SIG_DFL);
              install_guard();
              install_chaining<3>();
              install_guard();
              touch_bare(mapping);
            }),
            SIGBUS);
}

TEST_F(GuardedMapping, AHandlerThatLeavesByALongJumpIsAskedAgainAtTheNextFault) {
  revoke();
  EXPECT_EQ(end_of_child([&] {
              static sigjmp_buf back;
              struct sigaction leaving {};
              leaving.sa_sigaction = [](int, siginfo_t*, void*) { ::siglongjmp(back, 1); };
              leaving.sa_flags = SA_SIGINFO | SA_NODEFER;
              ::sigaction(SIGBUS, &leaving, nullptr);
              install_guard();
              static int times = 0;
              while (times++ < 3) {
                if (sigsetjmp(back, 1) == 0) {
                  touch_bare(mapping);
                  ::_exit(3);
                }
              }
              ::_exit(42);
            }),
            -42);
}

TEST_F(GuardedMapping, ASignalThatWasSentIsNoFault) {
#ifdef MAPCAP_SANITIZED
  GTEST_SKIP() << "MAPCAP_SANITIZED: sanitizers take SIGBUS before the default does";
#endif
  EXPECT_EQ(end_of_child([&] {
              install_guard();
              static_cast<void>(guarded(mapping.bytes(), []() noexcept { ::raise(SIGBUS); }));
            }),
            SIGBUS);
}

}  // namespace
}  // namespace mapcap
