// Promise 16: ending an endpoint ends all that came of it, whoever is in the middle of what, and wherever the
// broker dies meanwhile.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <future>
#include <optional>

#include "tests/support/endpoints.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

bool gone(const BrokerProcess& broker, const std::string& id) {
  return ::access((broker.directory() + "/endpoints/" + id).c_str(), F_OK) != 0;
}

/// What is charged to nobody that is still there.
const QuotaInfo* slot_of(const std::vector<QuotaInfo>& quotas, std::uint32_t principal) {
  for (const QuotaInfo& one : quotas) {
    if (one.slot.subject == SubjectKind::user && one.slot.id == principal && one.slot.pool.empty())
      return &one;
  }
  return nullptr;
}

using EndpointEndTest = EndpointTest;

TEST_F(EndpointEndTest, NobodyIsConnectedAndNothingOfItIsLeft) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  root.endpoint_create(spec("c1"));
  const Fd mount = root.endpoint_directory("c1");
  Client client = through(broker, "c1");
  const Mapping held(client.create(region("x/a"), Access::read_write));
  client.create(region("x/b"));
  const EndpointEnded ended = root.endpoint_end("c1");
  EXPECT_EQ(ended.revoked, 2U);
  EXPECT_EQ(ended.kept, 0U);
  EXPECT_EQ(ended.held, 4096U);
  EXPECT_EQ(refused([&] { client.list(); }, "a session"), ErrorCode::unavailable);
  EXPECT_EQ(refused([&] { at(by_descriptor(mount)); }, "a new one"), ErrorCode::unavailable);
  EXPECT_TRUE(gone(broker, "c1"));
  EXPECT_TRUE(root.list("x/b").empty());
  bool read = false;
  (void)guarded(held.bytes(), [&]() noexcept {
    const volatile std::byte first = held.bytes()[0];
    (void)first;
    read = true;
  });
  EXPECT_FALSE(read);
  EXPECT_EQ(refused([&] { root.endpoint_end("c1"); }, "twice"), ErrorCode::not_found);
}

/// Its maker's, which is not taken away with it: nothing is left of what its client wanted of it.
TEST_F(EndpointEndTest, APublishThatWaitsEndsWithIt) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  EndpointSpec wanted = spec("filler");
  wanted.on_end = OnEnd::keep;
  root.endpoint_create(wanted);
  Client client = through(broker, "filler");
  std::optional<Grant> writer(client.create(region("x/model"), Access::read_write));
  std::future<ErrorCode> waiting = std::async(std::launch::async, [&] {
    Client publisher = through(broker, "filler");
    return refused([&] { publisher.publish("x/model", 1h); }, "a publish of an endpoint that ended");
  });
  const auto opens = [&] {
    try {
      (void)root.open("x/model", Access::read_write);
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  ASSERT_TRUE(until([&] { return !opens(); })) << "nothing is being published";
  EXPECT_EQ(root.endpoint_end("filler").kept, 1U);
  EXPECT_EQ(waiting.get(), ErrorCode::unavailable);
  EXPECT_TRUE(until(opens)) << "its maker's now, and closed to writers";
  EXPECT_FALSE(root.show("x/model").region.published_unix);
}

TEST_F(EndpointEndTest, KeptRegionsAreItsMakersWhereThePolicyLetsHimHaveThem) {
  constexpr uid_t kMaker = 64002;
  BrokerProcess broker(
      open_policy("[[rule]]\nuser = 64002\nverbs = [\"endpoint\"]\n"
                  "[[rule]]\neffect = \"deny\"\nuser = 64003\n"));
  broker.start();
  ASSERT_EQ(as_user(kMaker,
                    [&] {
                      Client maker = broker.connect();
                      EndpointSpec wanted = spec("e");
                      wanted.on_end = OnEnd::keep;
                      maker.endpoint_create(wanted);
                      return 0;
                    }),
            0);
  Client client =
      through(broker, place_of(kMaker, "e"));  // Stays: what lives by a connection would end with it.
  {
    Mapping kept(client.create(region("m/kept"), Access::read_write));
    kept.writable()[0] = std::byte{42};
  }
  RegionSpec bound = region("m/bound");
  bound.lifetime = Lifetime::connection();
  client.create(bound);
  client.create(region("m/later-denied"));
  broker.set_policy(
      open_policy("[[rule]]\nuser = 64002\nverbs = [\"endpoint\"]\n"
                  "[[rule]]\neffect = \"deny\"\nuser = 64002\nnames = [\"m/later-*\"]\n"));
  broker.signal(SIGHUP);
  ASSERT_TRUE(until([&] { return broker.log().find("policy") != std::string::npos; }));
  Client root = broker.connect();
  ASSERT_TRUE(until([&] {
    return as_user(kMaker, [&] {
             Client maker = broker.connect();
             try {
               maker.create(region("m/later-probe"));
               maker.revoke("m/later-probe");
             } catch (const Error& error) {
               return error.code() == ErrorCode::denied ? 0 : 1;
             }
             return 1;
           }) == 0;
  }));
  // Made before the reload, it could not be revoked after it.
  for (const RegionInfo& probe : root.list("m/later-probe")) root.revoke(probe.name);
  const EndpointEnded ended = root.endpoint_end("e");
  EXPECT_EQ(ended.kept, 1U);
  EXPECT_EQ(ended.revoked, 2U);
  std::vector<RegionInfo> listed;
  // The others are given back in the background.
  ASSERT_TRUE(comes_true([&] {
    listed = root.list("m/**");
    return listed.size() == 1U;
  })) << listed.size();
  EXPECT_EQ(listed.front().owner, kMaker);
  EXPECT_EQ(listed.front().endpoint, "");
  broker.kill_broker();
  broker.start();
  EXPECT_EQ(
      as_user(kMaker,
              [&] {
                Client maker = broker.connect();
                const Mapping kept(maker.open("m/kept", Access::read_write));
                if (kept.bytes()[0] != std::byte{42}) return 1;
                for (const QuotaInfo& one : maker.quota()) {
                  if (one.slot.subject == SubjectKind::user && one.slot.pool.empty() && one.bytes != 4096)
                    return 2;
                }
                maker.revoke("m/kept");
                return 0;
              }),
      0);
}

TEST_F(EndpointEndTest, WhoHoldsOnIsChargedToTheOldOneAndNeverToTheNextOfItsName) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  const EndpointInfo first = root.endpoint_create(spec("c1"));
  auto held = std::make_unique<Mapping>(through(broker, "c1").create(region("x/a"), Access::read_write));
  root.endpoint_end("c1");
  const EndpointInfo second = root.endpoint_create(spec("c1"));
  EXPECT_NE(second.principal, first.principal);
  EXPECT_EQ(root.endpoint("c1").bytes, 0U);
  const auto still_charged = [&](Client& client) {
    const auto quotas = client.quota();
    const QuotaInfo* old = slot_of(quotas, first.principal);
    const QuotaInfo* maker = slot_of(quotas, 0);
    return old != nullptr && old->bytes == 4096 && old->endpoint == "c1" && maker != nullptr &&
           maker->bytes >= 4096;
  };
  EXPECT_TRUE(still_charged(root));
  broker.kill_broker();
  broker.start();
  Client again = broker.connect();
  EXPECT_TRUE(still_charged(again)) << "a restart let go of the maker's charge";
  held.reset();
  EXPECT_TRUE(until([&] {
    return again.endpoints().size() == 1 && slot_of(again.quota(), first.principal) == nullptr;
  })) << "the old one is never forgotten";
}

TEST_F(EndpointEndTest, ItsTimeEndsItUnlessItIsRenewed) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  EndpointSpec wanted = spec("short");
  wanted.ttl = 1s;
  root.endpoint_create(wanted);
  wanted.id = "renewed";
  root.endpoint_create(wanted);
  root.endpoint_renew("renewed", 1h);
  through(broker, "short").create(region("x/a"));
  EXPECT_EQ(refused([&] { root.endpoint_renew("short", 1ms); }, "too short"), ErrorCode::invalid);
  EXPECT_TRUE(until([&] { return root.list("x/a").empty() && gone(broker, "short"); }));
  EXPECT_NO_THROW(through(broker, "renewed").list());
}

TEST_F(EndpointEndTest, AgainstCreatesInFlightAndAnotherEnd) {
  BrokerProcess broker;
  broker.start();
  for (int round = 0; round < 5; ++round) {
    const std::uint32_t principal = broker.connect().endpoint_create(spec("c1")).principal;
    std::atomic<int> created{0};
    std::vector<std::thread> creators;
    for (int i = 0; i < 4; ++i) {
      creators.emplace_back([&, i] {
        try {
          Client client = through(broker, "c1");
          for (int n = 0;; ++n) {
            const std::string name =
                "x/" + std::to_string(round) + "-" + std::to_string(i) + "-" + std::to_string(n);
            client.create(region(name, 1U << 20U), Access::read_write);
            ++created;
          }
        } catch (const Error& error) {
          EXPECT_TRUE(error.code() == ErrorCode::unavailable || error.code() == ErrorCode::denied)
              << error.what();
        }
      });
    }
    until([&] { return created > 8; });
    std::atomic<int> ended{0};
    std::vector<std::thread> enders;
    for (int i = 0; i < 2; ++i) {
      enders.emplace_back([&] {
        try {
          broker.connect().endpoint_end("c1");
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::not_found) << error.what();
        }
        // Whoever it was told of: from now on nothing of it is live.
        for (const RegionInfo& one : broker.connect().list())
          EXPECT_FALSE(one.owner == principal && one.state == RegionState::live) << one.name;
        ++ended;
      });
    }
    for (std::thread& one : enders) one.join();
    for (std::thread& one : creators) one.join();
    EXPECT_EQ(ended, 2);
  }
  Client root = broker.connect();
  EXPECT_TRUE(until([&] { return root.list().empty() && root.endpoints().empty(); }));
}

/// The broker dies right after each step, and once more at the same while it recovers.
class EndpointDeathTest : public EndpointTest, public testing::WithParamInterface<const char*> {};

TEST_P(EndpointDeathTest, AnEndThatBeganIsWhole) {
  BrokerProcess broker;
  broker.set_program(MAPCAPD_FAULTS_PATH);
  broker.start();
  std::uint32_t principal = 0;
  std::optional<Grant> held;  // Of the first that ends: nobody has the second.
  {
    Client root = broker.connect();
    principal = root.endpoint_create(spec("c1")).principal;
    root.endpoint_create(spec("other"));
    Client client = through(broker, "c1");
    held.emplace(client.create(region("x/a"), Access::read_write));
    client.create(region("x/b"));
    through(broker, "other").create(region("y/a"));
  }
  broker.kill_broker();
  broker.set_environment({std::string("MAPCAP_DIE_AT=") + GetParam()});
  broker.start();
  bool acknowledged = false;
  try {
    ConnectOptions options;
    options.reconnect_within = 0ms;
    broker.connect(options).endpoint_end("c1");
    acknowledged = true;
  } catch (const Error&) {
  }
  held.reset();
  ASSERT_TRUE(broker.await_end()) << "the broker never came to its step";
  if (broker.start_if_it_lives()) {
    until([&] {
      try {
        ConnectOptions options;
        options.reconnect_within = 0ms;
        return broker.connect(options).endpoints().size() == 1;
      } catch (const Error&) {
        return true;  // It died once more.
      }
    });
    broker.kill_broker();
  }
  broker.set_environment({});
  broker.start();
  Client root = broker.connect();
  // It was recorded, so it is carried out, acknowledged or not.
  EXPECT_TRUE(until([&] {
    return root.list("x/**").empty() && root.endpoints().size() == 1 &&
           slot_of(root.quota(), principal) == nullptr;
  })) << "acknowledged: "
      << acknowledged;
  EXPECT_TRUE(gone(broker, "c1"));
  EXPECT_EQ(through(broker, "other").list().size(), 1U) << "another endpoint suffered";
  EXPECT_EQ(root.endpoint_create(spec("c1")).bytes, 0U);
  EXPECT_NO_THROW(through(broker, "c1").create(region("x/a")));
}

INSTANTIATE_TEST_SUITE_P(Steps, EndpointDeathTest,
                         testing::Values("endpoint-ending", "revoking", "cut", "draining", "scrubbing",
                                         "freed", "erased", "endpoint-ended", "endpoint-erased"),
                         [](const auto& step) {
                           std::string name = step.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_F(EndpointTest, OneThatWasRecordedListensAfterADeathAndOneThatWasNotLeavesNothing) {
  BrokerProcess broker;
  broker.set_program(MAPCAPD_FAULTS_PATH);
  broker.set_environment({"MAPCAP_DIE_AT=endpoint-active"});
  broker.start();
  ConnectOptions options;
  options.reconnect_within = 0ms;
  EXPECT_THROW(broker.connect(options).endpoint_create(spec("c1")), Error);
  ASSERT_TRUE(broker.await_end());
  std::filesystem::create_directories(directory_of(broker, "never-recorded"));
  broker.set_environment({});
  broker.start();
  EXPECT_NO_THROW(through(broker, "c1").create(region("x/a")));
  EXPECT_TRUE(gone(broker, "never-recorded"));
}

}  // namespace
}  // namespace mapcap::test
