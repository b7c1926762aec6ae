// Why a keeper was replaced is told as it was: a signal, an exit code, or its silence.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

bool logged(const BrokerProcess& broker, const std::string& words) {
  return comes_true([&] { return broker.log().find(words) != std::string::npos; });
}

TEST(KeeperEndTold, BySignalAndBySilence) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  BrokerProcess broker;
  broker.start();
  ASSERT_EQ(mapcap(broker, {"create", "a/x", "--size", "4K"}).status, 0);
  broker.kill_keeper();
  EXPECT_TRUE(logged(broker, "was ended by signal 9 (SIGKILL)")) << broker.log();
  pid_t keeper = 0;
  ASSERT_TRUE(comes_true([&] { return (keeper = broker.keeper_pid()) != 0; }));
  ASSERT_EQ(::kill(keeper, SIGSTOP), 0);
  // It is missed when something is asked of it.
  (void)mapcap(broker, {"run", "a/x", "--", "true"});
  EXPECT_TRUE(logged(broker, " of silence")) << broker.log();
}

}  // namespace
}  // namespace mapcap::test
