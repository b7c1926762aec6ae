// <mapcap.h>: every function is called from C89 (tests/interface/interface.c), against a real broker.
#include <gtest/gtest.h>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

TEST(CInterfaceTest, EveryFunctionDoesFromCWhatItsCommentSays) {
  const std::string policy = open_policy("", "seals = [\"sealed\", \"revocable\"]\n");
  BrokerProcess broker(policy);
  broker.start();
  const CommandResult done =
      run_command({MAPCAP_C_INTERFACE_PATH, broker.socket(), broker.directory() + "/scratch"});
  EXPECT_EQ(done.status, 0) << done.out << done.err;
}

}  // namespace
}  // namespace mapcap::test
