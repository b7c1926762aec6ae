// Promises 12 and 16: ids, connections and directories of endpoints are each maker's own, and no more of them by making
// more.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <chrono>
#include <list>

#include "tests/support/endpoints.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr uid_t kTenant = 64001;
constexpr uid_t kMaker = 64002;
constexpr uid_t kOther = 64003;

std::string anybody_makes_them(const std::string& more = "") {
  return open_policy("[[rule]]\nany = true\nverbs = [\"endpoint\"]\n" + more);
}

/// What a child of that user found: 0, or the number of what it expected otherwise.
class EndpointNames : public EndpointTest {
 protected:
  static int make(const BrokerProcess& broker, uid_t maker, const std::string& id) {
    return as_user(maker, [&] {
      broker.connect().endpoint_create(spec(id));
      return 0;
    });
  }
};

TEST_F(EndpointNames, AnIdIsEachMakersOwnAndTellsNobodyOfOthers) {
  BrokerProcess broker(anybody_makes_them());
  broker.start();
  Client root = broker.connect();
  const EndpointInfo roots = root.endpoint_create(spec("readers"));
  const int status = as_user(kMaker, [&] {
    Client maker = broker.connect();
    for (const char* id : {"readers", "root/readers", "0/readers"})
      if (refused([&] { maker.endpoint(id); }, id) != ErrorCode::not_found) return 1;
    const EndpointInfo made = maker.endpoint_create(spec("readers"));
    if (made.directory != directory_of(broker, place_of(kMaker, "readers"))) return 2;
    if (maker.endpoint("readers").principal != made.principal) return 3;
    if (maker.endpoint(std::to_string(kMaker) + "/readers").principal != made.principal) return 4;
    return maker.endpoints().size() == 1 ? 0 : 5;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(root.endpoints().size(), 2U);
  EXPECT_EQ(root.endpoint("readers").principal, roots.principal) << "one's own comes first";
  const EndpointInfo theirs = root.endpoint(std::to_string(kMaker) + "/readers");
  EXPECT_NE(theirs.principal, roots.principal);
  through(broker, place_of(kMaker, "readers")).create(region("x/a"));
  EXPECT_EQ(root.endpoint(std::to_string(kMaker) + "/readers").regions, 1U);
  EXPECT_EQ(root.endpoint("readers").regions, 0U);
  root.endpoint_end(std::to_string(kMaker) + "/readers");
  EXPECT_EQ(root.endpoint("readers").state, EndpointState::active) << "the wrong one ended";
}

TEST_F(EndpointNames, AnAdministratorSaysWhoseHeMeansWhereSeveralCouldBe) {
  BrokerProcess broker(anybody_makes_them());
  broker.start();
  ASSERT_EQ(make(broker, kMaker, "same"), 0);
  ASSERT_EQ(make(broker, kOther, "same"), 0);
  ASSERT_EQ(make(broker, kOther, "single"), 0);
  Client root = broker.connect();
  EXPECT_EQ(root.endpoint("single").maker, kOther);
  const CommandResult several = mapcap(broker, {"endpoint", "show", "same"});
  EXPECT_EQ(several.status, 1);
  EXPECT_THAT(several.err, testing::AllOf(HasSubstr("several users have an endpoint same"),
                                          HasSubstr("64002/same, 64003/same")));
  EXPECT_EQ(root.endpoint("64003/same").maker, kOther);
  EXPECT_EQ(refused([&] { root.endpoint("64001/same"); }, "nobody's"), ErrorCode::not_found);
  broker.kill_broker();
  broker.start();
  EXPECT_EQ(broker.connect().endpoints().size(), 3U);
  EXPECT_NO_THROW(through(broker, place_of(kMaker, "same")).list());
  EXPECT_NO_THROW(through(broker, place_of(kOther, "same")).list());
}

TEST_F(EndpointNames, WhatIsLeftOfAUsersEndpointIsSweptAndOnlyThat) {
  BrokerProcess broker(anybody_makes_them());
  broker.start();
  ASSERT_EQ(make(broker, kMaker, "stays"), 0);
  ASSERT_EQ(make(broker, kOther, "ends"), 0);
  std::filesystem::create_directories(directory_of(broker, place_of(kMaker, "never-recorded")));
  std::filesystem::create_directories(directory_of(broker, "never-recorded"));
  broker.connect().endpoint_end("ends");
  EXPECT_FALSE(std::filesystem::exists(directory_of(broker, place_of(kOther, "ends"))));
  EXPECT_FALSE(std::filesystem::exists(directory_of(broker, "@64003"))) << "nobody's any more";
  broker.kill_broker();
  broker.start();
  EXPECT_FALSE(std::filesystem::exists(directory_of(broker, place_of(kMaker, "never-recorded"))));
  EXPECT_FALSE(std::filesystem::exists(directory_of(broker, "never-recorded")));
  EXPECT_NO_THROW(through(broker, place_of(kMaker, "stays")).list());
}

// Each is a mount that lives until it is closed, in a namespace that counts for the broker's user.
TEST_F(EndpointNames, AUserGetsDirectoriesInMeasureAndTheAdministratorAsHePleases) {
  BrokerProcess broker(anybody_makes_them());
  broker.start();
  const int status = as_user(kMaker, [&] {
    Client maker = broker.connect();
    maker.endpoint_create(spec("a"));
    maker.endpoint_create(spec("b"));
    try {
      // One comes back every ten seconds, however slow this is.
      for (int i = 0; i < 1000; ++i) maker.endpoint_directory(i % 2 == 0 ? "a" : "b");
    } catch (const Error& error) {
      return error.code() == ErrorCode::exhausted ? 0 : 1;
    }
    return 2;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(as_user(kOther,
                    [&] {
                      Client other = broker.connect();
                      other.endpoint_create(spec("a"));
                      return other.endpoint_directory("a").valid() ? 0 : 1;
                    }),
            0)
      << "another user paid for it";
  Client root = broker.connect();
  root.endpoint_create(spec("r"));
  for (int i = 0; i < 80; ++i) ASSERT_TRUE(root.endpoint_directory("r").valid());
}

TEST_F(EndpointNames, ConnectionsThroughManyEndpointsAreTheirMakersWhereThereAreNotEnough) {
  const std::string given = "max_connections_per_user = 1000\n";
  std::string policy = anybody_makes_them();
  policy.replace(policy.find(given), given.size(), "max_connections = 12\nmax_connections_per_user = 12\n");
  BrokerProcess broker(policy);
  broker.start();
  ASSERT_EQ(as_user(kMaker,
                    [&] {
                      Client maker = broker.connect();
                      for (const char* id : {"a", "b", "c"}) maker.endpoint_create(spec(id));
                      return 0;
                    }),
            0);
  std::list<Client> makers;
  std::string refusal;
  try {
    for (int i = 0; i < 12; ++i)
      makers.push_back(through(broker, place_of(kMaker, std::string(1, static_cast<char>('a' + i % 3)))));
  } catch (const Error& error) {
    refusal = error.what();
  }
  EXPECT_EQ(makers.size(), 8U) << "four are left for the maker himself";
  EXPECT_THAT(refusal, HasSubstr("user 64002, who made endpoint"));
  // Six each, not three for each of three endpoints and three for him.
  EXPECT_EQ(as_user(kTenant,
                    [&] {
                      std::list<Client> own;
                      ConnectOptions once = BrokerProcess::patient();
                      once.reconnect_within = 0ms;
                      for (int i = 0; i < 6; ++i) own.push_back(broker.connect(once));
                      for (Client& one : own) one.list();
                      return 0;
                    }),
            0);
}

TEST_F(EndpointNames, TheAuditNamesWhoConnectedAndWhoMadeIt) {
  BrokerProcess broker(anybody_makes_them());
  broker.start();
  Client root = broker.connect();
  EndpointSpec wanted = spec("c1");
  wanted.limits.connections = 1;
  root.endpoint_create(wanted);
  const Fd mount = root.endpoint_directory("c1");
  EXPECT_EQ(as_user(kTenant,
                    [&] {
                      Client client = at(by_descriptor(mount));
                      client.create(region("x/a"));
                      return refused([&] { at(by_descriptor(mount)); }, "a second") == ErrorCode::over_quota
                                 ? 0
                                 : 1;
                    }),
            0);
  const std::string behind = "endpoint=c1 peer_uid=64001 maker=root maker_uid=0";
  EXPECT_TRUE(comes_true([&] {
    const std::string log = broker.log();
    return log.find("verb=create verdict=allowed name=x/a user=c1 uid=") != std::string::npos &&
           log.find("verb=connect verdict=over-quota user=c1 uid=") != std::string::npos;
  })) << broker.log();
  const std::string log = broker.log();
  const auto line_with = [&log](const std::string& words) {
    const std::size_t begin = log.find(words);
    return begin == std::string::npos ? "" : log.substr(begin, log.find('\n', begin) - begin);
  };
  EXPECT_THAT(line_with("verb=create"), HasSubstr("maker=root maker_uid=0"));
  EXPECT_THAT(line_with("verb=create"), HasSubstr("endpoint=c1 peer_uid=64001"));
  EXPECT_THAT(line_with("verb=connect verdict=over-quota"), HasSubstr(behind));
}

}  // namespace
}  // namespace mapcap::test
