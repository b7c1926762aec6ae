// Promise 11: identity comes from the kernel.
#include "policy/subject.h"

#include <gmock/gmock.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/accounts.h"
#include "schema/channel.h"

namespace mapcap::policy {
namespace {

TEST(Subject, OfAPeerIsWhatTheKernelSays) {
  auto pair = schema::socket_pair();
  ASSERT_TRUE(pair);
  const auto subject = Subject::of_peer(pair.value().first.borrow());
  ASSERT_TRUE(subject) << subject.error().sentence;
  EXPECT_EQ(subject.value().uid(), ::getuid());
  EXPECT_EQ(subject.value().gid(), ::getgid());
  EXPECT_EQ(subject.value().pid(), ::getpid());
  EXPECT_TRUE(subject.value().in_group(::getgid()));
  std::vector<gid_t> own(static_cast<std::size_t>(::getgroups(0, nullptr)));
  ASSERT_GE(::getgroups(static_cast<int>(own.size()), own.data()), 0);
  for (const gid_t gid : own) EXPECT_TRUE(subject.value().in_group(gid));
  EXPECT_TRUE(std::is_sorted(subject.value().groups().begin(), subject.value().groups().end()));
}

TEST(Subject, OfAPeerWithManyGroupsHasAllOfThem) {
  if (::getuid() != 0) GTEST_SKIP() << "setgroups needs CAP_SETGID";
  constexpr gid_t kGroups = 1000;  // far above the first buffer
  auto pair = schema::socket_pair();
  ASSERT_TRUE(pair);
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<gid_t> groups(kGroups);
    for (gid_t i = 0; i < kGroups; ++i) groups[i] = 10'000 + i;
    if (::setgroups(groups.size(), groups.data()) != 0) ::_exit(2);
    const auto inner = schema::socket_pair();  // credentials are taken when the pair is made
    const auto subject = Subject::of_peer(inner.value().first.borrow());
    ::_exit(subject && subject.value().in_group(10'000) && subject.value().in_group(10'999) &&
                    !subject.value().in_group(11'000)
                ? 0
                : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Subject, OfSomethingThatIsNoConnectedSocketIsAnError) {
  EXPECT_FALSE(Subject::of_peer(BorrowedFd(-1)));
  const Fd lonely(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  EXPECT_FALSE(Subject::of_peer(lonely.borrow()));
}

TEST(Subject, ForAnExplanationTakesNamesAndNumbers) {
  const auto by_name = Subject::for_explanation("root");
  ASSERT_TRUE(by_name);
  EXPECT_EQ(by_name.value().uid(), 0U);
  EXPECT_EQ(by_name.value().user(), "root");
  const auto by_number = Subject::for_explanation("0");
  ASSERT_TRUE(by_number);
  EXPECT_EQ(by_number.value().user(), "root");
  const auto without_account = Subject::for_explanation("3999999999");
  ASSERT_TRUE(without_account);
  EXPECT_EQ(without_account.value().user(), "3999999999");
  EXPECT_EQ(Subject::for_explanation("no-such-user").error().code, ErrorCode::not_found);
  EXPECT_EQ(Subject::for_explanation("").error().code, ErrorCode::not_found);
  EXPECT_EQ(Subject::for_explanation("4294967296").error().code, ErrorCode::not_found);
}

TEST(Accounts, KnowRootAndNobodyElsesNames) {
  const Accounts accounts = system_accounts();
  EXPECT_EQ(accounts.uid_of("root"), 0U);
  EXPECT_EQ(accounts.gid_of("root"), 0U);
  EXPECT_EQ(accounts.uid_of("no-such-user"), std::nullopt);
  EXPECT_EQ(accounts.gid_of("no-such-group"), std::nullopt);
  EXPECT_THAT(groups_of(Account{"root", 0, 0}), testing::Contains(0U));
}

}  // namespace
}  // namespace mapcap::policy
