// The client's connection: restarts, deadlines, and brokers that lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <filesystem>

#include "mapcap/mapcap.h"
#include "tests/support/fake_broker.h"

namespace mapcap {
namespace {

using std::chrono::milliseconds;
using testing::FakeBroker;
using testing::Peer;

// Long enough for a loaded machine to answer, short enough to wait for where a test wants it to pass.
constexpr milliseconds kShort{300};

ConnectOptions to(const FakeBroker& broker) {
  ConnectOptions options;
  options.socket = broker.path();
  options.deadline = std::chrono::seconds(20);
  return options;
}

schema::UniqueFd memfd(std::size_t size) {
  schema::UniqueFd fd(::memfd_create("client-test", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

schema::Granted granted(const std::string& name, std::uint64_t size, schema::Access rights) {
  schema::Granted body;
  body.region.id = {7};
  body.region.name = name;
  body.region.pool = "dram";
  body.region.size = {size};
  body.rights = rights;
  body.with_fd = true;
  return body;
}

// Answers one Open with a fresh memfd.
void grant_once(Peer& peer) {
  const auto request = peer.read();
  const auto fd = memfd(4096);
  peer.reply(request.id, granted("a/b", 4096, schema::Access::read_write), {fd.borrow()});
}

template <typename Call>
Error failure_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error(ErrorCode::invalid, "none");
}

std::size_t open_descriptors() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

TEST(ClientConnect, NobodyAtTheSocketIsUnavailableAndSaysWhere) {
  ConnectOptions options;
  options.socket = "/tmp/mapcap-nobody-listens-here";
  const Error error = failure_of([&] { Client::connect(options); });
  EXPECT_EQ(error.code(), ErrorCode::unavailable);
  EXPECT_THAT(error.what(), ::testing::HasSubstr(options.socket));
}

TEST(ClientConnect, AnotherProtocolVersionIsRefused) {
  FakeBroker broker({[](Peer& peer) {
    const auto hello = peer.read();
    schema::Welcome welcome;
    welcome.version = schema::kProtocolVersion + 1;
    welcome.broker = "newer";
    welcome.resume = std::string(schema::kResumeBytes, 'r');
    peer.reply(hello.id, welcome);
    peer.until_closed();
  }});
  EXPECT_EQ(failure_of([&] { Client::connect(to(broker)); }).code(), ErrorCode::version);
}

TEST(ClientConnect, ARefusedHelloKeepsItsCodeAndDetails) {
  FakeBroker broker({[](Peer& peer) {
    const auto hello = peer.read();
    peer.reply(hello.id,
               schema::error(schema::ErrorCode::exhausted, "too many connections", {{"limit", "64"}}));
    peer.until_closed();
  }});
  const Error error = failure_of([&] { Client::connect(to(broker)); });
  EXPECT_EQ(error.code(), ErrorCode::exhausted);
  EXPECT_STREQ(error.what(), "too many connections");
  EXPECT_EQ(error.detail("limit"), "64");
}

TEST(ClientCalls, ACreatedGrantMapsItsMemory) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    const auto& create = std::get<schema::Create>(request.body);
    EXPECT_EQ(create.size.value, 4096U);
    EXPECT_EQ(create.grant, schema::Access::read_write);
    const auto fd = memfd(4096);
    peer.reply(request.id, granted(create.name, 4096, schema::Access::read_write), {fd.borrow()});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  const Grant grant = client.create({.name = "alice/x", .size = 4096}, Access::read_write);
  EXPECT_EQ(grant.info().name, "alice/x");
  Mapping mapping(grant);
  mapping.writable()[4095] = std::byte{42};
  EXPECT_EQ(*Mapping(grant, Access::read_only).at<std::uint8_t>(4095), 42);
}

TEST(ClientCalls, PagesOfAListAreJoined) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    for (const char* name : {"a", "b", "c"}) {
      const auto request = peer.read();
      const auto& list = std::get<schema::List>(request.body);
      EXPECT_EQ(list.glob, "**");
      schema::Listing page;
      schema::RegionInfo region;
      region.name = name;
      page.regions.push_back(region);
      page.next = list.cursor == "b" ? "" : name;
      if (std::string_view(name) == "c") page.next.clear();
      peer.reply(request.id, page);
    }
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  std::vector<std::string> names;
  for (const RegionInfo& region : client.list("**")) names.push_back(region.name);
  EXPECT_THAT(names, ::testing::ElementsAre("a", "b", "c"));
}

TEST(ClientCalls, AListingThatDoesNotAdvanceIsRefused) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    for (int i = 0; i < 2; ++i) {
      const auto request = peer.read();
      schema::Listing page;
      page.next = "same";
      peer.reply(request.id, page);
    }
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  EXPECT_EQ(failure_of([&] { client.list(); }).code(), ErrorCode::malformed);
}

// Promise 12: the refusal reaches the program with everything that the broker said.
TEST(ClientCalls, ARefusalKeepsItsSentenceAndDetails) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    peer.reply(request.id,
               schema::error(schema::ErrorCode::over_quota, "user alice in pool dram would use 2 of 1",
                             {{"slot", "user alice"}, {"limit", "1"}}));
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  const Error error = failure_of([&] { client.create({.name = "a", .size = 1}); });
  EXPECT_EQ(error.code(), ErrorCode::over_quota);
  EXPECT_EQ(error.detail("slot"), "user alice");
  EXPECT_STREQ(name_of(error.code()), "over_quota");
}

TEST(ClientDescriptors, AGrantWithoutItsDescriptorIsMalformed) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    peer.reply(request.id, granted("a/b", 4096, schema::Access::read_only));
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  EXPECT_EQ(failure_of([&] { client.open("a/b", Access::read_only); }).code(), ErrorCode::malformed);
}

TEST(ClientDescriptors, OneDescriptorTooManyIsMalformedAndNothingStaysOpen) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    const auto fd = memfd(4096);
    peer.reply(request.id, granted("a/b", 4096, schema::Access::read_only), {fd.borrow(), fd.borrow()});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  const std::size_t before = open_descriptors();
  EXPECT_EQ(failure_of([&] { client.open("a/b", Access::read_only); }).code(), ErrorCode::malformed);
  // The connection of a broker that lies is closed too; the fake's own descriptors come and go beside us.
  EXPECT_LE(open_descriptors(), before);
}

TEST(ClientDescriptors, ADescriptorThatNobodyAskedForIsMalformed) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    const auto fd = memfd(4096);
    peer.reply(request.id, schema::PoolList{}, {fd.borrow()});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  EXPECT_EQ(failure_of([&] { client.pools(); }).code(), ErrorCode::malformed);
}

TEST(ClientDescriptors, AnAnnouncedCloneIsSentWithItsFile) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    EXPECT_EQ(std::get<schema::CloneFd>(request.body).rights, schema::Access::read_only);
    ASSERT_EQ(peer.fds.size(), 1U);
    peer.reply(request.id, granted("clone", 4096, schema::Access::read_only), {peer.fds.front().borrow()});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  const auto file = memfd(4096);
  EXPECT_EQ(client.clone(file.get(), Access::read_only).size(), 4096U);
}

TEST(ClientLies, NoiseIsMalformedAndTheNextCallReconnects) {
  FakeBroker broker({[](Peer& peer) {
                       peer.welcome();
                       peer.read();
                       peer.raw(std::vector<std::byte>(24, std::byte{0xff}));
                       peer.until_closed();
                     },
                     [](Peer& peer) {
                       peer.welcome();
                       const auto request = peer.read();
                       peer.reply(request.id, schema::PoolList{});
                       peer.until_closed();
                     }});
  auto client = Client::connect(to(broker));
  EXPECT_EQ(failure_of([&] { client.pools(); }).code(), ErrorCode::malformed);
  EXPECT_TRUE(client.pools().empty());
}

TEST(ClientLies, AnAnswerToARequestThatWasNeverMadeIsMalformed) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    peer.reply(request.id + 1, schema::PoolList{});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  EXPECT_EQ(failure_of([&] { client.pools(); }).code(), ErrorCode::malformed);
}

TEST(ClientLies, AnAnswerOfAnotherKindIsMalformed) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    peer.reply(request.id, schema::QuotaList{});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  EXPECT_EQ(failure_of([&] { client.pools(); }).code(), ErrorCode::malformed);
}

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
  options.reconnect_within = kShort;
  auto client = Client::connect(options);
  const auto started = std::chrono::steady_clock::now();
  EXPECT_EQ(failure_of([&] { client.pools(); }).code(), ErrorCode::unavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(10));
}

TEST(ClientRestart, ACreateOfUnknownOutcomeSaysSo) {
  FakeBroker broker({[](Peer& peer) {
                       peer.welcome();
                       peer.read();
                     },
                     [](Peer& peer) {
                       peer.welcome();
                       const auto request = peer.read();
                       peer.reply(request.id, schema::error(schema::ErrorCode::exists, "a/b exists"));
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
    peer.reply(request.id, schema::error(schema::ErrorCode::exists, "a/b exists"));
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
                       peer.reply(request.id, schema::error(schema::ErrorCode::not_found, "no a/b"));
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
    peer.reply(first.id, granted("late", 4096, schema::Access::read_only), {fd.borrow()});
    late = true;
    peer.reply(second.id, schema::PoolList{{schema::PoolInfo{}}});
    peer.until_closed();
  }});
  auto options = to(broker);
  options.deadline = kShort;
  auto client = Client::connect(options);
  EXPECT_EQ(failure_of([&] { client.open("late", Access::read_only); }).code(), ErrorCode::timed_out);
  EXPECT_EQ(client.pools().size(), 1U);
  EXPECT_TRUE(late);
}

TEST(ClientDeadline, ProgressKeepsALongCallAlive) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    for (std::uint64_t done = 1; done <= 4; ++done) {
      std::this_thread::sleep_for(kShort * 2 / 3);
      schema::Notice progress;
      progress.kind = schema::NoticeKind::progress;
      progress.request = request.id;
      progress.done = {done};
      progress.total = {4};
      peer.notice(progress);
    }
    peer.reply(request.id, schema::Revoked{{4096}, 1});
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
  EXPECT_THAT(seen, ::testing::ElementsAre(1, 2, 3, 4));
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
  ASSERT_EQ(::poll(&watched, 1, 10000), 1);
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
  EXPECT_EQ(::poll(&watched, 1, 10000), 1);
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
    ASSERT_EQ(::poll(&watched, 1, 10000), 1);
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
