// Promise 11: "{user}" in a rule is what the machine's accounts call the uid that the kernel attests.
#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include <string>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

constexpr uid_t kNameless = 64001;

/// 0 when `client` may create under `prefix`, the error's code when not.
int create_under(Client client, const std::string& prefix) {
  RegionSpec wanted;
  wanted.name = prefix + "/region";
  wanted.size = 4096;
  try {
    client.create(wanted);
    return 0;
  } catch (const Error& error) {
    return static_cast<int>(error.code());
  }
}

TEST(OwnName, ARuleWithUserAllowsOnesOwnNameAndNoOther) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  const passwd* account = ::getpwnam("daemon");
  ASSERT_NE(account, nullptr);
  const uid_t uid = account->pw_uid;
  ASSERT_EQ(::getpwuid(kNameless), nullptr);
  BrokerProcess broker(
      "[pool.dram]\nbacking = \"memory\"\ncapacity = \"1G\"\n"
      "[[rule]]\nany = true\nnames = [\"{user}/**\"]\n");
  broker.start();
  const int denied = static_cast<int>(ErrorCode::denied);
  // Each twice: looked up, and known.
  for (int i = 0; i < 2; ++i) {
    const auto under = [&](uid_t as, const std::string& prefix) {
      return as_user(as, [&] { return create_under(broker.connect(), prefix + "/" + std::to_string(i)); });
    };
    EXPECT_EQ(under(uid, "daemon"), 0);
    EXPECT_EQ(under(uid, std::to_string(uid)), denied) << "a number is no other name of who has one";
    EXPECT_EQ(under(uid, std::to_string(kNameless)), denied);
    EXPECT_EQ(under(kNameless, std::to_string(kNameless)), 0);
    EXPECT_EQ(under(kNameless, "daemon"), denied);
  }
}

}  // namespace
}  // namespace mapcap::test
