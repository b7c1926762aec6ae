// The attack table against a descriptor that is known to be open: a plain sealed memfd, as a pool without
// confinement would hand out. What the table finds there is what it would find on a confinement that does not
// hold; so these tests keep it from going blind.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <vector>

#include "client/cli/attack/attack.h"
#include "schema/unique_fd.h"

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
schema::UniqueFd sealed_memfd() {
  schema::UniqueFd fd(memfd_create("attacked", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(ftruncate(fd.get(), kSize), 0);
  EXPECT_TRUE(geteuid() != 0 || fchown(fd.get(), 65534, 65534) == 0);
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
  return fd;
}

schema::UniqueFd reopened_read_only(const schema::UniqueFd& fd) {
  return schema::UniqueFd(open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDONLY | O_CLOEXEC));
}

std::vector<Outcome> attack(const schema::UniqueFd& fd, schema::Access rights) {
  return run({fd.get(), rights, kSize, schema::Confinement::sealed});
}

std::vector<std::string> names_of(const std::vector<Outcome>& outcomes, bool (*which)(const Outcome&)) {
  std::vector<std::string> names;
  for (const Outcome& outcome : outcomes) {
    if (which(outcome)) names.push_back(outcome.family + "/" + outcome.operation);
  }
  return names;
}

// Both runs take seconds, and several tests look at each.
class AttackOnASealedMemfd : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const schema::UniqueFd fd = sealed_memfd();
    read_write_ = new std::vector<Outcome>(attack(fd, schema::Access::read_write));
    const schema::UniqueFd read_only = reopened_read_only(fd);
    read_only_ = new std::vector<Outcome>(attack(read_only, schema::Access::read_only));
  }
  static void TearDownTestSuite() {
    delete read_write_;
    delete read_only_;
    read_write_ = read_only_ = nullptr;
  }

  static std::vector<Outcome>* read_write_;
  static std::vector<Outcome>* read_only_;
};
std::vector<Outcome>* AttackOnASealedMemfd::read_write_ = nullptr;
std::vector<Outcome>* AttackOnASealedMemfd::read_only_ = nullptr;

// Promise 1
TEST_F(AttackOnASealedMemfd, FindsTheHolesThatAReadWriteHolderHas) {
  const std::vector<std::string> holes = names_of(*read_write_, is_hole);
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
}

// Promise 2
TEST_F(AttackOnASealedMemfd, FindsThatAReadOnlyHolderCanBecomeAWriter) {
  const std::vector<std::string> holes = names_of(*read_only_, is_hole);
  for (const char* known :
       {"read/read", "reopen/open /proc/self/fd O_RDWR", "mapping/mmap for writing after reopening",
        "mapping/mmap shared, exec", "attributes/fchmod 0123"}) {
    EXPECT_THAT(holes, Contains(known));
  }
}

// What the kernel itself refuses must not be called a hole: seals hold, ends are ends, ro mappings stay ro.
TEST_F(AttackOnASealedMemfd, DoesNotCryWolf) {
  const std::vector<std::string> holes = names_of(*read_write_, is_hole);
  for (const char* closed :
       {"size/ftruncate to 0", "size/ftruncate to more", "mapping/mmap at the end",
        "mapping/store past the end", "seals/F_ADD_SEALS F_SEAL_WRITE", "misuse/recvmsg"}) {
    EXPECT_THAT(holes, Not(Contains(closed)));
  }
  const std::vector<std::string> read_only_holes = names_of(*read_only_, is_hole);
  EXPECT_THAT(read_only_holes, Each(Not(HasSubstr("store by the kernel/"))));
  EXPECT_THAT(read_only_holes, Each(Not(HasSubstr("mapping/mprotect to write"))));
  EXPECT_THAT(read_only_holes, Not(Contains("mapping/mmap shared, write")));
}

TEST_F(AttackOnASealedMemfd, GivesHoldersWhatTheyAreEntitledTo) {
  EXPECT_THAT(names_of(*read_write_, is_broken), IsEmpty());
  EXPECT_THAT(names_of(*read_only_, is_broken), IsEmpty());
}

TEST_F(AttackOnASealedMemfd, NamesEachOperationOnce) {
  EXPECT_GE(read_write_->size(), 240U);
  EXPECT_EQ(read_write_->size(), operation_count());
  std::set<std::string> seen;
  for (const Outcome& outcome : *read_write_) {
    EXPECT_TRUE(seen.insert(outcome.family + "/" + outcome.operation).second) << outcome.operation;
  }
}

TEST_F(AttackOnASealedMemfd, PrintsHolesForPeopleAndForPrograms) {
  std::ostringstream table;
  print_table(table, *read_write_, Rows::findings);
  EXPECT_THAT(table.str(), HasSubstr("512 bytes of the region came out"));
  EXPECT_THAT(table.str(), Not(HasSubstr("F_GETFD")));
  std::ostringstream json;
  print_json(json, *read_write_);
  EXPECT_THAT(json.str(),
              HasSubstr(R"("operation":"read","expected":"refused","seen":"allowed","hole":true)"));
  EXPECT_THAT(json.str(), HasSubstr("\"holes\":" + std::to_string(summarize(*read_write_).holes)));
}

TEST(AttackTable, LeavesTheContentsAsTheyWere) {
  const schema::UniqueFd fd = sealed_memfd();
  std::vector<char> before(kSize);
  for (std::size_t i = 0; i < before.size(); ++i) before[i] = static_cast<char>('a' + i % 26);
  ASSERT_EQ(pwrite(fd.get(), before.data(), before.size(), 0), static_cast<ssize_t>(kSize));

  (void)attack(fd, schema::Access::read_write);

  std::vector<char> after(kSize);
  ASSERT_EQ(pread(fd.get(), after.data(), after.size(), 0), static_cast<ssize_t>(kSize));
  EXPECT_EQ(before, after);
}

TEST(AttackTable, LeavesNoDescriptorsBehind) {
  const auto lowest_free = [] { return schema::UniqueFd(dup(STDERR_FILENO)).get(); };
  const schema::UniqueFd fd = sealed_memfd();
  const int before = lowest_free();

  Options options;
  options.only = "read/";
  EXPECT_FALSE(
      run({fd.get(), schema::Access::read_write, kSize, schema::Confinement::sealed}, options).empty());

  EXPECT_EQ(lowest_free(), before);
}

}  // namespace
}  // namespace mapcap::attack
