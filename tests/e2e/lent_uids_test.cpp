// Promise 7: /etc/subuid counts from the moment it changes, for limits, for what was taken before, and for denials.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kOwner = 64020;
constexpr uid_t kFirst = 164'000;
constexpr uid_t kSecond = 164'001;

class LentUidsE2eTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    etc_ = broker_.directory() + "/etc";
    std::filesystem::copy(
        "/etc", etc_,
        std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
    lend("");
    // A broker whose /etc is the test's own.
    const std::string program = broker_.directory() + "/mapcapd";
    std::ofstream(program) << "#!/bin/sh\nexec unshare -m sh -c 'mount --bind " << etc_ << " /etc && exec "
                           << MAPCAPD_PATH << " \"$@\"' mapcapd \"$@\"\n";
    ::chmod(program.c_str(), 0755);
    broker_.set_program(program);
    broker_.start();
  }

  /// As useradd writes it.
  void lend(const std::string& text) const {
    std::ofstream(etc_ + "/subuid+") << text;
    std::filesystem::rename(etc_ + "/subuid+", etc_ + "/subuid");
  }
  int create(uid_t uid, const std::string& name) {
    return mapcap(broker_, {"create", name, "--size", "4K", "--mode", "0666"}, uid).status;
  }
  bool logged(const std::string& words) const {
    for (auto waited = 0ms; waited < 10s; waited += 20ms) {
      if (broker_.log().find(words) != std::string::npos) return true;
      std::this_thread::sleep_for(20ms);
    }
    return false;
  }

  std::string etc_;
  BrokerProcess broker_{
      open_policy("[[rule]]\nuser = 64020\neffect = \"deny\"\nnames = [\"payroll/**\"]\n"
                  "[[quota]]\nany = true\nregions = 1\n")};
};

TEST_F(LentUidsE2eTest, ARangeThatIsLentWhileTheBrokerRunsBindsItsOwner) {
  ASSERT_EQ(create(kFirst, "payroll/a"), 0);
  ASSERT_EQ(create(0, "payroll/b"), 0);
  lend(std::to_string(kOwner) + ":" + std::to_string(kFirst) + ":65536\n");
  ASSERT_TRUE(logged("1 charge counts for another user")) << broker_.log();
  const CommandResult over = mapcap(broker_, {"create", "x/a", "--size", "4K"}, kSecond);
  EXPECT_EQ(over.status, 1);
  EXPECT_NE(over.err.find("user 64020, to whom /etc/subuid lends uid 164001,"), std::string::npos)
      << over.err;
  const CommandResult denied = mapcap(broker_, {"create", "payroll/c", "--size", "4K"}, kSecond);
  EXPECT_EQ(denied.status, 1);
  EXPECT_NE(denied.err.find("denies create payroll/c in pool dram to user 164001 (lent to 64020)"),
            std::string::npos)
      << denied.err;
  lend("");
  for (auto waited = 0ms; waited < 10s && create(kSecond, "payroll/d") != 0; waited += 20ms)
    std::this_thread::sleep_for(20ms);
  EXPECT_EQ(mapcap(broker_, {"show", "payroll/d"}).status, 0)
      << "what is lent to nobody is bound by nobody's limits";
}

}  // namespace
}  // namespace mapcap::test
