// The client's calls: what comes back, and brokers that lie.
#include <gmock/gmock.h>

#include <filesystem>

#include "tests/unit/client_test_support.h"

namespace mapcap {
namespace {

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

// A broker that is full does not wait for the hello.
TEST(ClientConnect, ARefusalThatComesBeforeTheHelloIsHeard) {
  for (int times = 0; times < 20; ++times) {
    FakeBroker broker(
        {[](Peer& peer) { peer.reply(0, failure(ErrorCode::exhausted, "too many connections")); }});
    EXPECT_EQ(failure_of([&] { Client::connect(to(broker)); }).code(), ErrorCode::exhausted);
  }
}

TEST(ClientConnect, ARefusedHelloKeepsItsCodeAndDetails) {
  FakeBroker broker({[](Peer& peer) {
    const auto hello = peer.read();
    peer.reply(hello.id, failure(ErrorCode::exhausted, "too many connections", {{"limit", "64"}}));
    peer.until_closed();
  }});
  const Error error = failure_of([&] { Client::connect(to(broker)); });
  EXPECT_EQ(error.code(), ErrorCode::exhausted);
  EXPECT_STREQ(error.what(), "too many connections");
  EXPECT_EQ(error.detail("limit"), "64");
}

TEST(ClientConnect, AClientThatMadeSomethingForItsConnectionSaysGoodbyeWhereTheBrokerKnowsIt) {
  for (const std::uint64_t features : {schema::kFeatureGoodbye, std::uint64_t{0}}) {
    for (const LifetimeKind kind : {LifetimeKind::connection, LifetimeKind::persistent}) {
      bool said = false;
      {
        FakeBroker broker({[&](Peer& peer) {
          peer.welcome(std::string(schema::kResumeBytes, 'r'), false, features);
          schema::Granted made = granted("a/b", 4096, Access::read_only);
          made.with_fd = false;
          peer.reply(peer.read().id, made);
          const auto last = peer.read();
          said = std::holds_alternative<schema::Goodbye>(last.body);
          if (said) peer.reply(last.id, schema::Done{});
          peer.until_closed();
        }});
        RegionSpec spec;
        spec.name = "a/b";
        spec.size = 4096;
        spec.lifetime = kind == LifetimeKind::connection ? Lifetime::connection() : Lifetime::persistent();
        Client::connect(to(broker)).create(spec);
      }
      EXPECT_EQ(said, features != 0 && kind == LifetimeKind::connection);
    }
  }
}

TEST(ClientConnect, ABrokerThatDoesNotAnswerAGoodbyeHoldsNobodyUpForLong) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome(std::string(schema::kResumeBytes, 'r'), false, schema::kFeatureGoodbye);
    schema::Granted made = granted("a/b", 4096, Access::read_only);
    made.with_fd = false;
    peer.reply(peer.read().id, made);
    peer.until_closed();
  }});
  RegionSpec spec;
  spec.name = "a/b";
  spec.size = 4096;
  std::optional<Client> client(Client::connect(to(broker)));
  client->create(spec);
  const auto before = std::chrono::steady_clock::now();
  client.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(10));
}

TEST(ClientCalls, ACreatedGrantMapsItsMemory) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    const auto& create = std::get<schema::Create>(request.body);
    EXPECT_EQ(create.size, 4096U);
    EXPECT_EQ(create.grant, Access::read_write);
    const auto fd = memfd(4096);
    peer.reply(request.id, granted(create.name, 4096, Access::read_write), {fd.borrow()});
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
      RegionInfo region;
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
    peer.reply(request.id, failure(ErrorCode::over_quota, "user alice in pool dram would use 2 of 1",
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
    peer.reply(request.id, granted("a/b", 4096, Access::read_only));
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
    peer.reply(request.id, granted("a/b", 4096, Access::read_only), {fd.borrow(), fd.borrow()});
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

TEST(ClientDescriptors, AFileIsSentToThePortBeforeItsCloneIsAskedFor) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    auto request = peer.read();
    ASSERT_TRUE(std::holds_alternative<schema::AskClonePort>(request.body));
    auto port = std::move(schema::socket_pair().value());
    peer.reply(request.id, schema::ClonePort{7}, {port.second.borrow()});
    request = peer.read();
    EXPECT_EQ(request.body, schema::RequestBody(schema::CloneFd{Access::read_only, 7}));
    EXPECT_TRUE(peer.fds.empty());
    auto sent = schema::receive(port.first.borrow(), 16, 2);
    auto& packet = std::get<schema::Incoming>(sent.value());
    ASSERT_EQ(packet.fds.size(), 1U);
    peer.reply(request.id, granted("clone", 4096, Access::read_only), {packet.fds.front().borrow()});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  const auto file = memfd(4096);
  EXPECT_EQ(client.clone(file.get(), Access::read_only).size(), 4096U);
}

TEST(ClientDescriptors, APortThatIsGoneIsAskedForAgain) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    for (std::uint64_t ticket = 1; ticket <= 2; ++ticket) {
      auto request = peer.read();
      auto port = std::move(schema::socket_pair().value());
      peer.reply(request.id, schema::ClonePort{ticket}, {port.second.borrow()});
      if (ticket == 1) port.first.reset();  // Before or after the file is sent there.
      request = peer.read();
      EXPECT_EQ(std::get<schema::CloneFd>(request.body).ticket, ticket);
      if (ticket == 1) {
        peer.reply(request.id, failure(ErrorCode::unavailable, "gone", {{"port", "gone"}}));
        continue;
      }
      const auto file = memfd(4096);
      peer.reply(request.id, granted("clone", 4096, Access::read_only), {file.borrow()});
    }
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  const auto file = memfd(4096);
  EXPECT_EQ(client.clone(file.get(), Access::read_only).size(), 4096U);
}

TEST(ClientDescriptors, ABrokerThatKnowsNoPortsIsNotAskedForOne) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome(std::string(schema::kResumeBytes, 'r'), false, 0);
    const auto request = peer.read();
    EXPECT_TRUE(std::holds_alternative<schema::Pools>(request.body));
    peer.reply(request.id, schema::PoolList{});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  const auto file = memfd(4096);
  EXPECT_EQ(failure_of([&] { client.clone(file.get(), Access::read_only); }).code(), ErrorCode::unsupported);
  EXPECT_TRUE(client.pools().empty()) << "the connection is as good as before";
}

TEST(ClientDescriptors, WhatIsNoDescriptorIsInvalidAndCostsNothing) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    EXPECT_TRUE(std::holds_alternative<schema::Pools>(request.body));
    peer.reply(request.id, schema::PoolList{});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  EXPECT_EQ(failure_of([&] { client.clone(-1, Access::read_only); }).code(), ErrorCode::invalid);
  EXPECT_TRUE(client.pools().empty());
}

TEST(ClientArguments, WhatCannotBeSaidIsInvalidInTheCallersWordsAndIsNeverSent) {
  FakeBroker broker({[](Peer& peer) {
    peer.welcome();
    const auto request = peer.read();
    EXPECT_TRUE(std::holds_alternative<schema::Pools>(request.body));
    peer.reply(request.id, schema::PoolList{});
    peer.until_closed();
  }});
  auto client = Client::connect(to(broker));
  const auto refused = [&](const std::function<void(RegionSpec&)>& spoil) {
    RegionSpec spec;
    spec.name = "a/b";
    spec.size = 4096;
    spoil(spec);
    const Error error = failure_of([&] { client.create(spec); });
    EXPECT_EQ(error.code(), ErrorCode::invalid) << error.what();
    return std::string(error.what());
  };
  EXPECT_THAT(refused([](RegionSpec& spec) { spec.mode = 0777; }), ::testing::StartsWith("mode: has bits"));
  EXPECT_THAT(refused([](RegionSpec& spec) { spec.mode = 0x10600; }),
              ::testing::StartsWith("mode: has bits"));
  EXPECT_THAT(refused([](RegionSpec& spec) { spec.name = std::string(300, 'n'); }),
              ::testing::StartsWith("name: 300 bytes"));
  EXPECT_THAT(refused([](RegionSpec& spec) { spec.pool = std::string(65, 'p'); }),
              ::testing::StartsWith("pool: 65 bytes"));
  EXPECT_EQ(failure_of([&] { client.list(std::string(300, '*')); }).code(), ErrorCode::invalid);
  EXPECT_EQ(failure_of([&] { client.renew("a/b", std::chrono::nanoseconds(-1)); }).code(),
            ErrorCode::invalid);
  EXPECT_TRUE(client.pools().empty()) << "the connection is as good as before";
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

}  // namespace
}  // namespace mapcap
