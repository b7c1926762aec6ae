// Promise 13: nobody is an administrator by accident.
#include "policy/power.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/subject.h"
#include "schema/channel.h"
#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

constexpr const char* kInitialMap = "         0          0 4294967295\n";

Credentials with(const std::string& uid, const std::string& effective, const std::string& pids) {
  Credentials found = parse_status("Name:\tx y\nUid:\t0\t" + uid + "\t0\t0\nNSpid:\t" + pids +
                                   "\nVmSize:\t  100 kB\nCapInh:\t0\nCapEff:\t" + effective +
                                   "\nCapBnd:\t000001ffffffffff\n");
  found.id_maps = std::string(kInitialMap) + "/" + kInitialMap;
  return found;
}

const Credentials kBroker = with("0", "0000000000200200", "900");
const Credentials kInit = with("0", "000001ffffffffff", "1");

Action create_a() {
  Action action;
  action.verb = Verb::create;
  action.name = "a";
  return action;
}

std::string why(const Credentials& peer) {
  return why_powerless(peer, kBroker, kInit);
}

TEST(Power, IsAllThatInitHandsOnInTheBrokersOwnNamespaces) {
  EXPECT_EQ(why(with("0", "000001ffffffffff", "1234")), "");
  Credentials bounded = kInit;
  bounded.bounding = 0x1fffeffffff;
  EXPECT_EQ(why_powerless(with("0", "000001fffeffffff", "1234"), kBroker, bounded), "")
      << "what the whole machine was denied nobody can have";
}

TEST(Power, OfAContainersRootIsNone) {
  EXPECT_NE(why(with("0", "00000000a80425fb", "1234")), "") << "the fourteen that container engines leave";
  EXPECT_NE(why(with("0", "0000000000000000", "1234")), "");
  EXPECT_NE(why(with("0", "000001ffffffffff", "1234 1")), "") << "a privileged container";
  EXPECT_NE(why(with("0", "00000000fdecafff", "1234")), "") << "systemd-nspawn: CAP_SYS_ADMIN among others";
  EXPECT_NE(why(with("0", "000001fffffeffff", "1234")), "") << "all but one";
  EXPECT_NE(why(with("1000", "000001ffffffffff", "1234")), "") << "it gave its uid up after it connected";
}

TEST(Power, OfAUserNamespaceIsNone) {
  Credentials peer = with("0", "000001ffffffffff", "1234");
  peer.id_maps = std::string("         0          0          1\n/") + kInitialMap;
  EXPECT_NE(why(peer), "");
  // A map that looks like the initial one, of a namespace that does not.
  Credentials broker = kBroker;
  broker.user_namespace = 4026531837;
  peer = with("0", "000001ffffffffff", "1234");
  peer.user_namespace = 4026531838;
  EXPECT_NE(why_powerless(peer, broker, kInit), "");
  peer.user_namespace = 4026531837;
  EXPECT_EQ(why_powerless(peer, broker, kInit), "");
}

TEST(Power, OfWhatCannotBeReadIsNone) {
  EXPECT_NE(why(Credentials{}), "");
  EXPECT_NE(why_powerless(with("0", "000001ffffffffff", "1"), kBroker, Credentials{}), "");
  EXPECT_NE(why_powerless(with("0", "000001ffffffffff", "1"), Credentials{}, kInit), "");
  Credentials no_maps = with("0", "000001ffffffffff", "1");
  no_maps.id_maps.clear();
  EXPECT_NE(why(no_maps), "");
  Credentials no_program = with("0", "000001ffffffffff", "1");
  no_program.kernel_thread = true;
  EXPECT_NE(why(no_program), "");
}

TEST(Power, OfAProcessThatEndedIsNone) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  ASSERT_TRUE(pidfd.valid());
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  // Another process's number: what a peer that ended would leave to somebody with power.
  EXPECT_EQ(why_powerless(::getpid(), pidfd.borrow()), "its process has ended");
  EXPECT_NE(why_powerless(::getpid(), BorrowedFd(-1)), "");
  ::waitpid(child, nullptr, 0);
}

TEST(Power, OfAPeerIsFoundOnItsSocket) {
  if (::getuid() != 0) GTEST_SKIP() << "only uid 0 can have any";
  const auto pair = schema::socket_pair();
  const auto subject = Subject::of_peer(pair.value().first.borrow());
  ASSERT_TRUE(subject);
  EXPECT_TRUE(subject.value().administrator()) << subject.value().describe();
  EXPECT_EQ(subject.value().describe(), "user 0");
}

TEST(Power, DecidesOfRulesThatNameTheAdministrator) {
  const auto policy = load_with_pool("[[rule]]\nadministrator = true\n");
  EXPECT_TRUE(policy->allows(root(), create_a()));
  EXPECT_FALSE(policy->allows(alice(), create_a()));
}

}  // namespace
}  // namespace mapcap::policy
