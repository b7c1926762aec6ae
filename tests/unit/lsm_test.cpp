#include "broker/confine/lsm/lsm.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mapcap::broker::confine {
namespace {

// Promise 1: a machine that cannot enforce is refused with the reason.
TEST(Lsm, SaysInOneSentenceWhyAMachineCannotConfine) {
  const std::string why = lsm_unavailable();
  if (why.empty()) GTEST_SKIP() << "BPF LSM: this machine can confine by it";
  EXPECT_EQ(why.find('\n'), std::string::npos) << why;
  EXPECT_TRUE(why.find(';') != std::string::npos || why.find(':') != std::string::npos)
      << "it does not say what to do: " << why;
  auto made = make_lsm();
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::unsupported) << made.error().sentence;
}

TEST(Lsm, PinsNothingOutsideOfABpfFilesystem) {
  const std::string pins = testing::TempDir() + "mapcap-lsm-pins-" + std::to_string(::getpid());
  auto made = make_lsm({pins});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::unsupported) << made.error().sentence;
  struct stat status {};
  EXPECT_NE(::stat(pins.c_str(), &status), 0) << pins << " was made";
}

}  // namespace
}  // namespace mapcap::broker::confine
