// The guard: a touch of memory that was taken away returns instead of killing.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

#include "mapcap/mapcap.h"
#include "tests/unit/client_grant_test_support.h"

namespace mapcap {
namespace {

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
