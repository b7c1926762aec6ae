// What people type, and what the command says to it.
#include <gmock/gmock.h>
#include <unistd.h>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using testing::HasSubstr;

class CommandLineTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker_.start();
  }
  CommandResult run(std::vector<std::string> arguments) { return mapcap(broker_, std::move(arguments)); }

  BrokerProcess broker_;
};

TEST_F(CommandLineTest, AListOfAGlobThatNoNameMatchesIsRefused) {
  for (const char* glob : {"[", "/a", "hu1/", "a//b", "a/./b"}) {
    const CommandResult listed = run({"list", glob});
    EXPECT_EQ(listed.status, 1) << glob;
    EXPECT_EQ(listed.out, "") << glob;
    EXPECT_THAT(listed.err, HasSubstr("matches no name")) << glob;
  }
  EXPECT_THAT(run({"list", "hu1/"}).err, HasSubstr("did you mean \"hu1/**\"?"));
}

TEST_F(CommandLineTest, AListThatFindsNothingSaysSoAndWhereItMayBe) {
  ASSERT_EQ(run({"create", "hu1/a", "--size", "4K"}).status, 0);
  const CommandResult listed = run({"list", "hu1"});
  EXPECT_EQ(listed.status, 0);
  EXPECT_THAT(listed.err, HasSubstr("nothing that you may see matches hu1; did you mean hu1/**?"));
  const CommandResult other = run({"--json", "list", "hu2"});
  EXPECT_EQ(other.out, "[]\n");
  EXPECT_EQ(other.err, "mapcap: nothing that you may see matches hu2\n");
  EXPECT_EQ(run({"list", "hu1/**"}).err, "");
}

}  // namespace
}  // namespace mapcap::test
