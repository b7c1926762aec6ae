// The attack table against a descriptor that is known to be open: a plain sealed memfd, as a pool without
// confinement would hand out. What the table finds there is what it would find on a confinement that does not
// hold; so these tests keep it from going blind.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <set>
#include <sstream>
#include <vector>

#include "client/attack/attack.h"
#include "client/attack/operation.h"
#include "mapcap/fd.h"

namespace mapcap::attack {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::uint64_t kSize =
    128 * 1024;  // more than the table's head window, so that its tail is watched too

// Owned by the attacker, which is the weakest that a region can be.
Fd sealed_memfd() {
  Fd fd(memfd_create("attacked", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(ftruncate(fd.get(), kSize), 0);
  EXPECT_TRUE(geteuid() != 0 || fchown(fd.get(), 65534, 65534) == 0);
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
  return fd;
}

Fd reopened_read_only(const Fd& fd) {
  return Fd(open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDONLY | O_CLOEXEC));
}

std::vector<Outcome> attack(const Fd& fd, Access rights) {
  return run({fd.get(), rights, kSize, Confinement::sealed});
}

std::vector<std::string> names_of(const std::vector<Outcome>& outcomes, bool (*which)(const Outcome&)) {
  std::vector<std::string> names;
  for (const Outcome& outcome : outcomes) {
    if (which(outcome)) names.push_back(outcome.family + "/" + outcome.operation);
  }
  return names;
}

// A whole run takes seconds, so each of the two is looked at from all sides at once.

// Promise 1
TEST(AttackTable, FindsTheHolesThatAReadWriteHolderOfAPlainMemfdHas) {
  const Fd fd = sealed_memfd();
  const std::vector<Outcome> outcomes = attack(fd, Access::read_write);

  const std::vector<std::string> holes = names_of(outcomes, is_hole);
  for (const char* known : {"read/read",
                            "read/pread",
                            "write/write",
                            "write/pwritev2 RWF_SYNC",
                            "transfer/sendfile to a socket",
                            "transfer/splice to a pipe, 0",
                            "transfer/splice from a pipe",
                            "aio/IOCB_CMD_PREAD",
                            "size/fallocate PUNCH_HOLE",
                            "size/FS_IOC_UNRESVSP",
                            "attributes/fchmod 0123",
                            "attributes/futimens to now",
                            "descriptor/F_SETLEASE F_RDLCK",
                            "reopen/open /proc/self/fd O_RDWR",
                            "reopen/open the fd of another process O_RDWR",
                            "reopen/execveat of a script in it",
                            "mapping/mmap shared, exec",
                            "mapping/mprotect to exec",
                            "mapping/mmap read under READ_IMPLIES_EXEC",
                            "mapping/remap_file_pages under READ_IMPLIES_EXEC, rw",
                            "advice/madvise MADV_REMOVE",
                            "process/SCM_RIGHTS, then read",
                            "watch/inotify, all events"}) {
    EXPECT_THAT(holes, Contains(known));
  }
  // 172 on Linux 6.18, fewer where calls are missing.
  EXPECT_GE(holes.size(), 120U);
  // What the kernel refuses by itself is no hole: seals hold, and the end is the end.
  for (const char* closed :
       {"size/ftruncate to 0", "size/ftruncate to more", "mapping/mmap at the end",
        "mapping/store past the end", "seals/F_ADD_SEALS F_SEAL_WRITE", "misuse/recvmsg"}) {
    EXPECT_THAT(holes, Not(Contains(closed)));
  }
  EXPECT_THAT(names_of(outcomes, is_broken), IsEmpty()) << "a holder is refused what it is entitled to";
  EXPECT_EQ(outcomes.size(), operation_count());
}

// Promise 2
TEST(AttackTable, FindsThatAReadOnlyHolderOfAPlainMemfdCanBecomeAWriter) {
  const Fd fd = reopened_read_only(sealed_memfd());
  const std::vector<Outcome> outcomes = attack(fd, Access::read_only);

  const std::vector<std::string> holes = names_of(outcomes, is_hole);
  for (const char* known :
       {"read/read", "reopen/open /proc/self/fd O_RDWR", "mapping/mmap for writing after reopening",
        "mapping/mmap shared, exec", "attributes/fchmod 0123"}) {
    EXPECT_THAT(holes, Contains(known));
  }
  EXPECT_THAT(holes, Each(Not(HasSubstr("store by the kernel/"))));
  EXPECT_THAT(holes, Each(Not(HasSubstr("mapping/mprotect to write"))));
  EXPECT_THAT(holes, Not(Contains("mapping/mmap shared, write")));
  EXPECT_THAT(names_of(outcomes, is_broken), IsEmpty()) << "a holder is refused what it is entitled to";
}

TEST(AttackTable, NamesEachOperationOnce) {
  EXPECT_GE(operation_count(), 240U);
  std::set<std::string> seen;
  for (const Operation& operation : all_operations()) {
    EXPECT_TRUE(seen.insert(operation.family + "/" + operation.name).second) << operation.name;
  }
}

std::vector<Outcome> a_hole_and_two_others() {
  return {{"read", "read", Expected::refused, Seen::allowed, 0, "512 bytes", ""},
          {"size", "ftruncate", Expected::refused, Seen::refused, EPERM, "", ""},
          {"mapping", "mmap", Expected::allowed, Seen::refused, EACCES, "a \"quoted\" word", ""}};
}

TEST(AttackTable, PrintsHolesAndBrokenEntriesForPeople) {
  std::ostringstream table;
  print_table(table, a_hole_and_two_others(), Rows::findings);
  EXPECT_THAT(table.str(), HasSubstr("512 bytes"));
  EXPECT_THAT(table.str(), HasSubstr("EACCES"));
  EXPECT_THAT(table.str(), Not(HasSubstr("ftruncate")));
  EXPECT_THAT(table.str(), HasSubstr("3 operations tried"));
  EXPECT_THAT(table.str(), HasSubstr("1 hole, 1 broken"));

  std::ostringstream all;
  print_table(all, a_hole_and_two_others(), Rows::all);
  EXPECT_THAT(all.str(), HasSubstr("ftruncate"));
}

TEST(AttackTable, PrintsEveryOutcomeForPrograms) {
  std::ostringstream json;
  print_json(json, a_hole_and_two_others());
  EXPECT_THAT(json.str(),
              HasSubstr(R"("operation":"read","expected":"refused","seen":"allowed","hole":true)"));
  EXPECT_THAT(json.str(), HasSubstr(R"("note":"a \"quoted\" word")"));
  EXPECT_THAT(json.str(), HasSubstr(R"("holes":1,"broken":1)"));
}

TEST(AttackTable, LeavesTheContentsAsTheyWere) {
  const Fd fd = sealed_memfd();
  std::vector<char> before(kSize);
  for (std::size_t i = 0; i < before.size(); ++i) before[i] = static_cast<char>('a' + i % 26);
  ASSERT_EQ(pwrite(fd.get(), before.data(), before.size(), 0), static_cast<ssize_t>(kSize));

  Options options;
  options.only = "write";  // the whole family, and whatever else writes
  const std::vector<Outcome> outcomes =
      run({fd.get(), Access::read_write, kSize, Confinement::sealed}, options);
  EXPECT_GE(summarize(outcomes).holes, 10U);

  std::vector<char> after(kSize);
  ASSERT_EQ(pread(fd.get(), after.data(), after.size(), 0), static_cast<ssize_t>(kSize));
  EXPECT_EQ(before, after);
}

TEST(AttackTable, LeavesNoDescriptorsBehind) {
  const auto lowest_free = [] { return Fd(dup(STDERR_FILENO)).get(); };
  const Fd fd = sealed_memfd();
  const int before = lowest_free();

  Options options;
  options.only = "read/";
  EXPECT_FALSE(run({fd.get(), Access::read_write, kSize, Confinement::sealed}, options).empty());

  EXPECT_EQ(lowest_free(), before);
}

}  // namespace
}  // namespace mapcap::attack
