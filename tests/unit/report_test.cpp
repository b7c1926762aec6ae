// The log: whoever reads it must not be able to hold the broker up, nor may a failure that repeats fill a
// disk.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "broker/report/report.h"
#include "tests/support/patience.h"

namespace mapcap::broker {
namespace {

const Failure kRefused = failure(ErrorCode::io, "the probe says no");

/// Everything that `body` logs.
template <typename Body>
std::string logged(Body body) {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  EXPECT_GT(::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20), 0);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  body();
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(ends[1]);
  std::string text(1 << 20, '\0');
  const ssize_t got = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

std::size_t lines(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

TEST(LogReport, AFailureThatRepeatsIsToldAtGrowingIntervalsWithItsCount) {
  const std::string text = logged([] {
    LogReport report;
    for (int i = 0; i < 10'000; ++i) report.reclaim_failed("alice/a", kRefused);
  });
  EXPECT_GE(lines(text), 1U);
  EXPECT_LE(lines(text), 16U) << text;
  EXPECT_NE(text.find("alice/a failed, will try again: the probe says no\n"), std::string::npos);
  EXPECT_NE(text.find("(4 times by now)"), std::string::npos);
}

TEST(LogReport, FailuresOfThousandsOfRegionsAreCountedRatherThanTold) {
  const std::string text = logged([] {
    LogReport report;
    report.use_time([] { return std::chrono::nanoseconds(0); }, nullptr);
    for (int i = 0; i < 5'000; ++i) report.reclaim_failed("alice/" + std::to_string(i), kRefused);
  });
  EXPECT_LE(lines(text), 100U);
}

TEST(LogReport, AReaderThatDoesNotReadHoldsNobodyUp) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    LogReport report;
    // Far more than a pipe of 64 KiB has room for, while nobody reads.
    for (int i = 0; i < 10'000; ++i) report.policy_reloaded("/etc/mapcap/policy.toml");
    char byte = 0;
    ::_exit(::write(ends[1], &byte, 0) == 0 ? 0 : 1);
  }
  int status = 0;
  pid_t ended = 0;
  EXPECT_TRUE(test::comes_true([&] {
    ended = ::waitpid(child, &status, WNOHANG);
    return ended == child;
  })) << "it waits for its reader";
  if (ended != child) ::kill(child, SIGKILL);
  EXPECT_EQ(status, 0);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(LogReport, SaysHowManyLinesNobodyRead) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  LogReport report;
  for (int i = 0; i < 10'000; ++i) report.policy_reloaded("/etc/mapcap/policy.toml");
  std::string text(1 << 16, '\0');
  EXPECT_GT(::read(ends[0], text.data(), text.size()), 0);
  report.policy_reloaded("the last");
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(ends[1]);
  text.assign(1 << 17, '\0');
  const ssize_t got = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  ASSERT_GT(got, 0);
  text.resize(static_cast<std::size_t>(got));
  EXPECT_NE(text.find(" lines were not logged: nobody read them\n"), std::string::npos);
  EXPECT_NE(text.find("the last\n"), std::string::npos);
}

}  // namespace
}  // namespace mapcap::broker
