// The client's connection over time: restarts, deadlines, notices, and a fork.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <atomic>
#include <numeric>

#include "tests/unit/client_test_support.h"

namespace mapcap {
namespace {

using std::chrono::milliseconds;

// Long enough for a loaded machine to answer, short enough to wait for where a test wants it to pass.
constexpr milliseconds kShort{3000};

// Promise 9, the client's half.
TEST(ClientRestart, ACallUnderWayIsRepeatedOverANewConnectionWithTheResumeToken) {
  const std::string token(schema::kResumeBytes, 't');
  FakeBroker broker({[&](Peer& peer) {
                       EXPECT_EQ(peer.welcome(token).resume, "");
                       EXPECT_TRUE(std::holds_alternative<schema::Open>(peer.read().body));
                     },
                     [&](Peer& peer) {
                       EXPECT_EQ(peer.welcome(token, true).resume, token);
                       grant_once(peer);
                       peer.until_closed();
                     }});
  std::vector<Notice> told;
  auto options = to(broker);
  options.on_notice = [&](const Notice& notice) { told.push_back(notice); };
  auto client = Client::connect(options);
  EXPECT_EQ(client.open("a/b", Access::read_write).size(), 4096U);
  EXPECT_EQ(client.poll(), 1U);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told.front().kind, Notice::Kind::reconnected);
  EXPECT_TRUE(told.front().resumed);
}

TEST(ClientRestart, ABrokerThatStaysAwayIsUnavailableWithinItsTime) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    peer.read();
  }});
  auto options = to(broker);
  options.deadline = std::chrono::hours(1);  // What it is not to wait for.
  options.reconnect_within = milliseconds(300);
  auto client = Client::connect(options);
  const auto started = std::chrono::steady_clock::now();
  EXPECT_EQ(failure_of([&] { client.pools(); }).code(), ErrorCode::unavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - started, test::kPatience);
}

TEST(ClientRestart, ACreateOfUnknownOutcomeSaysSo) {
  FakeBroker broker({[](Peer& peer) {
                       peer.welcome();
                       peer.read();
                     },
                     [](Peer& peer) {
                       peer.welcome();
                       const auto request = peer.read();
                       peer.reply(request.id, failure(ErrorCode::exists, "a/b exists"));
                       peer.until_closed();
                     }});
  auto client = Client::connect(to(broker));
  const Error error = failure_of([&] { client.create({.name = "a/b", .size = 4096}); });
  EXPECT_EQ(error.code(), ErrorCode::exists);
  EXPECT_EQ(error.detail("ambiguous"), "true");
}

TEST(ClientRestart, ACreateThatWasNotRepeatedIsNotAmbiguous) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    peer.reply(request.id, failure(ErrorCode::exists, "a/b exists"));
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  EXPECT_EQ(failure_of([&] { client.create({.name = "a/b", .size = 4096}); }).detail("ambiguous"), "");
}

TEST(ClientRestart, ARevokeThatTheRestartedBrokerFinishedSucceeds) {
  FakeBroker broker({[](Peer& peer) {
                       peer.welcome();
                       peer.read();
                     },
                     [](Peer& peer) {
                       peer.welcome();
                       const auto request = peer.read();
                       peer.reply(request.id, failure(ErrorCode::not_found, "no a/b"));
                       peer.until_closed();
                     }});
  auto client = Client::connect(to(broker));
  EXPECT_EQ(client.revoke("a/b").held, 0U);
}

TEST(ClientRestart, ABrokerThatDropsEveryConnectionEndsTheCall) {
  // As many as the client tries at most.
  FakeBroker broker(std::vector<FakeBroker::Script>(8, [](Peer& peer) {
    peer.welcome();
    EXPECT_TRUE(std::holds_alternative<schema::Quota>(peer.read().body));
  }));
  auto client = Client::connect(to(broker));
  EXPECT_EQ(failure_of([&] { client.quota(); }).code(), ErrorCode::unavailable);
}

TEST(ClientDeadline, ASilentBrokerTimesOutAndItsLateAnswerIsNotTakenForAnother) {
  std::atomic<bool> late = false;
  FakeBroker broker({[&](Peer& peer) {
    peer.welcome();
    const auto first = peer.read();
    const auto second = peer.read();
    const auto fd = memfd(4096);
    // The first answer, with its descriptor, comes while the client waits for the second.
    peer.reply(first.id, granted("late", 4096, Access::read_only), {fd.borrow()});
    late = true;
    peer.reply(second.id, Revoked{4096, 1});
    peer.until_closed();
  }});
  auto options = to(broker);
  options.deadline = kShort;
  auto client = Client::connect(options);
  EXPECT_EQ(failure_of([&] { client.open("late", Access::read_only); }).code(), ErrorCode::timed_out);
  RevokeOptions patient;  // The answer has time, whatever the deadline of the one before was.
  patient.drain = true;
  patient.within = test::kPatience;
  EXPECT_EQ(client.revoke("late", patient).held, 4096U);
  EXPECT_TRUE(late);
}

TEST(ClientDeadline, ProgressKeepsALongCallAlive) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    // Far more often than the deadline asks for, and for longer than it is.
    const auto until = std::chrono::steady_clock::now() + kShort * 4 / 3;
    for (std::uint64_t done = 1; std::chrono::steady_clock::now() < until; ++done) {
      std::this_thread::sleep_for(kShort / 100);
      schema::Notice progress;
      progress.kind = schema::NoticeKind::progress;
      progress.request = request.id;
      progress.done = {done};
      progress.total = {4};
      peer.notice(progress);
    }
    peer.reply(request.id, Revoked{4096, 1});
    peer.until_closed();
  }});
  auto options = to(broker);
  options.deadline = kShort;
  auto client = Client::connect(options);
  std::vector<std::uint64_t> seen;
  RevokeOptions how;
  how.progress = [&](std::uint64_t done, std::uint64_t total) {
    seen.push_back(done);
    EXPECT_EQ(total, 4U);
  };
  EXPECT_EQ(client.revoke("a/b", how).held, 4096U);
  std::vector<std::uint64_t> all(seen.size());
  std::iota(all.begin(), all.end(), 1);
  EXPECT_GE(seen.size(), 4U);
  EXPECT_EQ(seen, all);
}

TEST(ClientNotices, TheyArriveThroughPollWithTheDescriptorReadable) {
  FakeBroker broker({[](Peer& peer) {
    const schema::Hello hello = peer.welcome();
    EXPECT_EQ(hello.features & schema::kFeatureNotices, schema::kFeatureNotices);
    schema::Notice notice;
    notice.kind = schema::NoticeKind::revoked;
    notice.id = {9};
    notice.name = "a/b";
    peer.notice(notice);
    peer.until_closed();
  }});
  std::vector<Notice> told;
  auto options = to(broker);
  options.on_notice = [&](const Notice& notice) { told.push_back(notice); };
  auto client = Client::connect(options);
  pollfd watched{client.fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&watched, 1, test::kPatienceMs), 1);
  EXPECT_EQ(client.poll(), 1U);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told.front().kind, Notice::Kind::revoked);
  EXPECT_EQ(told.front().region, 9U);
  EXPECT_EQ(::poll(&watched, 1, 0), 0) << "nothing is left to do";
}

TEST(ClientNotices, OneThatComesDuringACallWaitsForPoll) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    schema::Notice notice;
    notice.kind = schema::NoticeKind::expiring;
    notice.name = "a/b";
    notice.within = std::chrono::seconds(30);
    peer.notice(notice);
    peer.reply(request.id, schema::PoolList{});
    peer.until_closed();
  }});
  int told = 0;
  auto options = to(broker);
  options.on_notice = [&](const Notice& notice) {
    EXPECT_EQ(notice.within, std::chrono::seconds(30));
    ++told;
  };
  auto client = Client::connect(options);
  client.pools();
  EXPECT_EQ(told, 0);
  pollfd watched{client.fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&watched, 1, test::kPatienceMs), 1);
  client.poll();
  EXPECT_EQ(told, 1);
}

TEST(ClientNotices, PollReconnectsAProgramThatMakesNoCalls) {
  const std::string token(schema::kResumeBytes, 't');
  FakeBroker broker({[&](Peer& peer) { peer.welcome(token); },
                     [&](Peer& peer) {
                       EXPECT_EQ(peer.welcome(token, true).resume, token);
                       peer.until_closed();
                     }});
  bool resumed = false;
  auto options = to(broker);
  options.on_notice = [&](const Notice& notice) { resumed = notice.resumed; };
  auto client = Client::connect(options);
  const int stable = client.fd();
  for (int attempts = 0; attempts < 100 && !resumed; ++attempts) {
    pollfd watched{client.fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&watched, 1, test::kPatienceMs), 1);
    client.poll();
  }
  EXPECT_TRUE(resumed);
  EXPECT_EQ(client.fd(), stable);
}

TEST(ClientFork, AChildMayNotUseItsParentsConnection) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    peer.reply(request.id, schema::PoolList{});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      client.pools();
    } catch (const Error& error) {
      ::_exit(error.code() == ErrorCode::invalid ? 0 : 1);
    }
    ::_exit(2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(client.pools().empty());
}

}  // namespace
}  // namespace mapcap
