// How the attack table judges, with attempts that are known to behave, lie, hang or die. The region decides,
// not what an attempt claims.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <sstream>

#include "client/attack/attack.h"
#include "client/attack/operation.h"
#include "mapcap/fd.h"
#include "tests/support/patience.h"

namespace mapcap::attack {
namespace {

constexpr std::uint64_t kSize = 256 * 1024;

class Judgement : public testing::Test {
 protected:
  Judgement() {
    EXPECT_EQ(ftruncate(fd_.get(), kSize), 0);
    EXPECT_EQ(fchmod(fd_.get(), 0666), 0);
    options_.patience = test::kPatience;
  }

  Outcome judge(Rule rule, Try attempt, Access rights = Access::read_write,
                Evidence evidence = Evidence::answer) {
    const std::vector<Outcome> outcomes =
        run({fd_.get(), rights, kSize, Confinement::clone}, options_,
            {{"test", "operation", rule, evidence, Where::process, std::move(attempt)}});
    EXPECT_EQ(outcomes.size(), 1U);
    return outcomes.empty() ? Outcome{} : outcomes.front();
  }

  Fd fd_{memfd_create("judged", MFD_CLOEXEC)};
  Options options_;
};

Attempt flips_the_first_byte(const Context& c) {
  std::byte* region = map(c, PROT_READ | PROT_WRITE);
  if (region == nullptr) return inconclusive("cannot map");
  region[0] = ~region[0];
  return refused(EPERM);
}

TEST_F(Judgement, ChangedContentsAreAHoleWhateverTheAnswerWas) {
  const Outcome outcome = judge(Rule::refused, flips_the_first_byte);
  EXPECT_TRUE(is_hole(outcome));
  EXPECT_EQ(outcome.seen, Seen::allowed);
  EXPECT_EQ(outcome.damage, "contents changed");
}

TEST_F(Judgement, AByteAtTheEndOfTheRegionIsWatchedToo) {
  EXPECT_TRUE(is_hole(judge(Rule::refused, [](const Context& c) {
    std::byte* region = map(c, PROT_READ | PROT_WRITE);
    region[kSize - 1] = ~region[kSize - 1];
    return refused(EPERM);
  })));
}

TEST_F(Judgement, ChangedContentsAreAHoleWhereEitherAnswerWouldDo) {
  EXPECT_TRUE(is_hole(judge(Rule::harmless, flips_the_first_byte)));
}

TEST_F(Judgement, AReadWriteHolderMayStore) {
  EXPECT_FALSE(is_hole(judge(Rule::tolerated_rw, flips_the_first_byte)));
  EXPECT_FALSE(is_hole(judge(Rule::allowed_rw, flips_the_first_byte)));
}

TEST_F(Judgement, AReadOnlyHolderMayNotStore) {
  // The target is open for writing, so the attempt succeeds where a read-only grant would stop it.
  EXPECT_TRUE(is_hole(judge(Rule::tolerated_rw, flips_the_first_byte, Access::read_only)));
  EXPECT_TRUE(is_hole(judge(Rule::allowed_rw, flips_the_first_byte, Access::read_only)));
}

TEST_F(Judgement, AShrunkRegionIsAHoleAndIsSeenWithoutFaulting) {
  const Outcome outcome = judge(Rule::refused, [](const Context& c) { return answered(ftruncate(c.fd, 0)); });
  EXPECT_TRUE(is_hole(outcome));
  EXPECT_NE(outcome.damage.find("mapping faults"), std::string::npos) << outcome.damage;
  struct stat state {};
  ASSERT_EQ(fstat(fd_.get(), &state), 0);
  EXPECT_EQ(state.st_size, static_cast<off_t>(kSize)) << "the size was not put back";
}

TEST_F(Judgement, AChangedModeIsAHole) {
  if (geteuid() != 0) GTEST_SKIP() << "the mode is changed by its owner only, and giving it away takes root";
  ASSERT_EQ(fchown(fd_.get(), 65534, 65534), 0);
  const Outcome outcome =
      judge(Rule::harmless, [](const Context& c) { return answered(fchmod(c.fd, 0600)); });
  EXPECT_TRUE(is_hole(outcome));
  EXPECT_NE(outcome.damage.find("mode"), std::string::npos) << outcome.damage;
}

TEST_F(Judgement, ASuccessThatChangesNothingIsARefusalWhereChangeIsTheEvidence) {
  const Try claims_success = [](const Context&) { return allowed(); };
  EXPECT_FALSE(is_hole(judge(Rule::refused, claims_success, Access::read_write, Evidence::change)));
  EXPECT_TRUE(is_hole(judge(Rule::refused, claims_success, Access::read_write, Evidence::answer)));
}

TEST_F(Judgement, AnAttemptThatHangsProvesNothing) {
  options_.patience = std::chrono::milliseconds(300);
  const Outcome outcome = judge(Rule::refused, [](const Context&) {
    pause();
    return refused(EPERM);
  });
  EXPECT_EQ(outcome.seen, Seen::inconclusive);
  EXPECT_TRUE(is_broken(outcome));
  EXPECT_FALSE(is_hole(outcome));
}

TEST_F(Judgement, AnAttemptThatDiesProvesNothing) {
  const Outcome outcome = judge(Rule::refused, [](const Context&) {
    raise(SIGKILL);
    return refused(EPERM);
  });
  EXPECT_EQ(outcome.seen, Seen::inconclusive);
  EXPECT_TRUE(is_broken(outcome));
}

TEST_F(Judgement, AnEntitlementThatIsRefusedIsBroken) {
  const Outcome outcome = judge(Rule::allowed, [](const Context&) { return refused(EPERM); });
  EXPECT_TRUE(is_broken(outcome));
  EXPECT_FALSE(is_hole(outcome));
}

TEST_F(Judgement, WhatTheMachineDoesNotHaveIsNeitherHoleNorBroken) {
  const Outcome outcome = judge(Rule::refused, [](const Context&) {
    errno = ENOSYS;
    return answered(-1);
  });
  EXPECT_EQ(outcome.seen, Seen::unsupported);
  EXPECT_FALSE(is_hole(outcome));
  EXPECT_FALSE(is_broken(outcome));
}

TEST_F(Judgement, WhatIsLeftOutIsNotTriedAndIsToldSo) {
  const Fd file(memfd_create("left-out", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 4096), 0);
  Options options;
  options.except = "test/crashes";
  const Try would_be_seen = [](const Context&) { return allowed(); };
  const auto outcomes =
      run({file.get(), Access::read_only, 4096, Confinement::clone}, options,
          {{"test", "crashes", Rule::refused, Evidence::answer, Where::process, would_be_seen},
           {"test", "more", Rule::refused, Evidence::answer, Where::process, would_be_seen}});
  ASSERT_EQ(outcomes.size(), 2U);
  EXPECT_EQ(outcomes[0].seen, Seen::left_out);
  EXPECT_FALSE(is_hole(outcomes[0]) || is_broken(outcomes[0]));
  EXPECT_TRUE(is_hole(outcomes[1]));
  std::ostringstream table;
  print_table(table, outcomes, Rows::findings);
  EXPECT_NE(table.str().find("left out"), std::string::npos);
  EXPECT_NE(table.str().find("1 operations tried"), std::string::npos) << table.str();
  EXPECT_NE(table.str().find("1 left out"), std::string::npos) << table.str();
  EXPECT_TRUE(is_operation("advice/cachestat"));
  EXPECT_FALSE(is_operation("cachestat"));
}

TEST_F(Judgement, AFaultOfAnAttemptIsCaught) {
  const Outcome outcome = judge(Rule::refused, [](const Context& c) {
    std::byte* region = map(c, PROT_READ);
    return store(region, std::byte{1}) ? allowed() : refused(0, "faults");
  });
  EXPECT_EQ(outcome.seen, Seen::refused);
  EXPECT_EQ(outcome.note, "faults");
}

// An attacker with privileges would prove nothing about one without.
TEST_F(Judgement, TheAttackerIsAStranger) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  const Outcome outcome = judge(Rule::refused, [](const Context&) {
    if (geteuid() != 65534 || getegid() != 65534 || getgroups(0, nullptr) != 0)
      return allowed("still privileged");
    if (open("/proc/self/fd/0", O_PATH) < 0 && errno == EACCES)
      return allowed("cannot see its own descriptors");
    return answered(setuid(0));
  });
  EXPECT_EQ(outcome.seen, Seen::refused) << outcome.note;
  EXPECT_EQ(outcome.error, EPERM);
}

TEST_F(Judgement, WhatAnAttemptStartsEndsWithIt) {
  pid_t* left_behind = static_cast<pid_t*>(
      mmap(nullptr, sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(left_behind, MAP_FAILED);
  (void)judge(Rule::refused, [left_behind](const Context&) {
    *left_behind = spawn([] { pause(); });
    return refused(EPERM);
  });
  ASSERT_GT(*left_behind, 0);
  // It is reaped by init, or stays a zombie where there is none; it must not run on.
  bool ended = false;
  EXPECT_TRUE(test::comes_true([&] {
    const Fd stat(open(("/proc/" + std::to_string(*left_behind) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
    char text[256] = {};
    ended = !stat.valid() || read(stat.get(), text, sizeof text - 1) <= 0 ||
            std::string_view(text).find(") Z ") != std::string_view::npos ||
            std::string_view(text).find(") X ") != std::string_view::npos;
    return ended;
  }));
  munmap(left_behind, sizeof(pid_t));
}

}  // namespace
}  // namespace mapcap::attack
