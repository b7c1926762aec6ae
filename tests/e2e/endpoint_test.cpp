// Promise 16: an endpoint is an authority of its own, never allows more than its maker may, and nobody has more
// by making some.
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <sstream>

#include "tests/support/endpoints.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr uid_t kTenant = 64001;
constexpr uid_t kMaker = 64002;

TEST_F(EndpointTest, WhoeverCanConnectMayDoWhatItAllowsWhateverUidHeHas) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  const EndpointInfo made = root.endpoint_create(spec("c1", {"c1/**"}));
  EXPECT_EQ(made.directory, directory_of(broker, "c1"));
  const Fd mount = root.endpoint_directory("c1");
  const int status = as_user(kTenant, [&] {
    Client client = at(by_descriptor(mount));
    client.create(region("c1/own"), Access::read_write);
    if (refused([&] { client.create(region("c2/other")); }, "another prefix") != ErrorCode::denied) return 1;
    if (client.list().size() != 1 || client.list().front().endpoint != "c1") return 2;
    return client.show("c1/own").region.owner == made.principal ? 0 : 3;
  });
  EXPECT_EQ(status, 0);
  const CommandResult shown = mapcap(broker, {"show", "c1/own"});
  EXPECT_THAT(shown.out, HasSubstr("owner         endpoint c1 0600")) << "a number says nothing to people";
  EXPECT_THAT(mapcap(broker, {"quota"}).out, HasSubstr("endpoint c1"));
  EXPECT_THAT(mapcap(broker, {"list"}).out, HasSubstr("endpoint c1"));
}

TEST_F(EndpointTest, ItsSocketIsFoundByNobodyWhoWasNotGivenIt) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  root.endpoint_create(spec("c1"));
  root.endpoint_create(spec("c2"));
  const auto mode = [](const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777U;
  };
  EXPECT_EQ(mode(broker.directory() + "/endpoints"), 0700U);
  EXPECT_EQ(mode(directory_of(broker, "c1")), 0755U);
  EXPECT_EQ(mode(directory_of(broker, "c1") + "/mapcap.sock"), 0666U);
  const Fd mount = root.endpoint_directory("c1");
  EXPECT_EQ(as_user(kTenant,
                    [&] {
                      return refused([&] { through(broker, "c1"); }, "by path") == ErrorCode::denied ? 0 : 1;
                    }),
            0);
  // Nor by way of one that was given, not even by uid 0: its directory is the root of a mount of its own.
  const std::string up = "/proc/self/fd/" + std::to_string(mount.get()) + "/../c2/mapcap.sock";
  EXPECT_NE(::access(up.c_str(), F_OK), 0);
  EXPECT_EQ(::access(by_descriptor(mount).c_str(), F_OK), 0);
  EXPECT_NE(::unlinkat(mount.get(), "mapcap.sock", 0), 0) << "the mount is read-only";
}

TEST_F(EndpointTest, TwoContainersOfOneUidSeeNothingOfEachOther) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  root.endpoint_create(spec("a"));
  root.endpoint_create(spec("b"));
  const Fd a = root.endpoint_directory("a");
  const Fd b = root.endpoint_directory("b");
  const int status = as_user(kTenant, [&] {
    Client first = at(by_descriptor(a));
    Client second = at(by_descriptor(b));
    first.create(region("shared/first"));
    if (!second.list().empty()) return 1;
    for (const auto& verb : std::vector<std::function<void()>>{
             [&] { second.open("shared/first", Access::read_only); }, [&] { second.show("shared/first"); },
             [&] { second.revoke("shared/first"); }}) {
      const ErrorCode code = refused(verb, "another container's region");
      if (code != ErrorCode::not_found && code != ErrorCode::denied) return 2;
    }
    return first.list().size() == 1 ? 0 : 3;
  });
  EXPECT_EQ(status, 0);
}

TEST_F(EndpointTest, AReaderOpensWhatItsMakerMayOpenAndNothingElse) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  root.create(region("models/a"));  // 0600: it need not be readable by everybody.
  root.create(region("private/a"));
  EndpointSpec readers = spec("readers", {"models/**"});
  readers.verbs = {"open"};
  readers.rights = Access::read_only;
  root.endpoint_create(readers);
  Client reader = through(broker, "readers");
  EXPECT_EQ(reader.open("models/a", Access::read_only).rights(), Access::read_only);
  for (const auto& verb : std::vector<std::function<void()>>{
           [&] { reader.open("models/a", Access::read_write); },
           [&] { reader.open("private/a", Access::read_only); }, [&] { reader.create(region("models/b")); },
           [&] { reader.revoke("models/a"); }, [&] { reader.pools(); }, [&] { reader.quota(); },
           [&] { reader.endpoints(); }, [&] { reader.endpoint_create(spec("more")); },
           [&] { reader.endpoint_end("readers"); },
           [&] {
             reader.quota_set({SubjectKind::user, 0, ""}, {1, {}, {}, {}});
           }}) {
    const ErrorCode code = refused(verb, "what it was not made for");
    EXPECT_TRUE(code == ErrorCode::denied || code == ErrorCode::not_found) << static_cast<int>(code);
  }
}

TEST_F(EndpointTest, AMakerGivesNoMoreThanHeHasAndADenyReachesItAtOnce) {
  const std::string policy =
      open_policy("[[rule]]\nuser = " + std::to_string(kMaker) + "\nverbs = [\"endpoint\"]\n");
  BrokerProcess broker(policy);
  broker.start();
  ASSERT_EQ(as_user(kMaker,
                    [&] {
                      Client maker = broker.connect();
                      maker.create(region("m/x"));
                      maker.endpoint_create(spec("e"));
                      return 0;
                    }),
            0);
  Client root = broker.connect();
  root.create(region("root/secret"));
  Client client = through(broker, place_of(kMaker, "e"));
  EXPECT_EQ(client.open("m/x", Access::read_write).rights(), Access::read_write) << "as its maker";
  const ErrorCode hidden = refused([&] { client.open("root/secret", Access::read_only); }, "root's own");
  EXPECT_TRUE(hidden == ErrorCode::denied || hidden == ErrorCode::not_found);

  const auto denied_after = [&](const std::string& rule) {
    broker.set_policy(policy + rule);
    broker.signal(SIGHUP);
    return until([&] {
      try {
        client.open("m/x", Access::read_only);
      } catch (const Error& error) {
        return error.code() == ErrorCode::denied || error.code() == ErrorCode::not_found;
      }
      return false;
    });
  };
  const auto allowed_again = [&] {
    broker.set_policy(policy);
    broker.signal(SIGHUP);
    return until([&] {
      try {
        client.open("m/x", Access::read_only);
        return true;
      } catch (const Error&) {
        return false;
      }
    });
  };
  EXPECT_TRUE(denied_after("[[rule]]\neffect = \"deny\"\nendpoint = \"e\"\n"));
  EXPECT_TRUE(allowed_again());
  EXPECT_TRUE(denied_after("[[rule]]\neffect = \"deny\"\nuser = " + std::to_string(kMaker) + "\n"));
}

TEST_F(EndpointTest, WhoMayMakeNoneMakesNoneAndOnesOwnAreNobodyElses) {
  BrokerProcess broker(
      open_policy("[[rule]]\nuser = " + std::to_string(kMaker) + "\nverbs = [\"endpoint\"]\n"));
  broker.start();
  EXPECT_EQ(as_user(kTenant,
                    [&] {
                      Client client = broker.connect();
                      return refused([&] { client.endpoint_create(spec("e")); }, "no verb") ==
                                     ErrorCode::denied
                                 ? 0
                                 : 1;
                    }),
            0);
  Client root = broker.connect();
  root.endpoint_create(spec("roots"));
  EXPECT_EQ(as_user(kMaker,
                    [&] {
                      Client client = broker.connect();
                      EndpointSpec plain = spec("mine", {});
                      const EndpointInfo made = client.endpoint_create(plain);
                      if (made.spec.names != std::vector<std::string>{std::to_string(kMaker) + "/mine/**"})
                        return 1;
                      if (client.endpoints().size() != 1) return 2;
                      if (refused([&] { client.endpoint("roots"); }, "root's") != ErrorCode::not_found)
                        return 3;
                      if (refused([&] { client.endpoint_end("roots"); }, "root's") != ErrorCode::not_found)
                        return 4;
                      return refused([&] { client.endpoint_create(spec("mine")); }, "twice") ==
                                     ErrorCode::exists
                                 ? 0
                                 : 5;
                    }),
            0);
  EXPECT_EQ(root.endpoints().size(), 2U);
  EXPECT_NO_THROW(root.endpoint_end("mine"));
}

/// Sixteen race, through four endpoints of one maker.
// Promise 13: both are uid 0, and only one of them made it.
TEST_F(EndpointTest, AContainersRootHasNoPartInTheAdministratorsEndpoints) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  root.endpoint_create(spec("adm"));
  const pid_t child = ::fork();
  if (child == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> none{};
    if (::syscall(SYS_capset, &header, none.data()) != 0) ::_exit(100);
    Client powerless = broker.connect();
    if (!powerless.endpoints().empty()) ::_exit(1);
    if (refused([&] { powerless.endpoint("adm"); }, "show") != ErrorCode::not_found) ::_exit(2);
    if (refused([&] { powerless.endpoint_directory("adm"); }, "directory") != ErrorCode::not_found)
      ::_exit(3);
    if (refused([&] { powerless.endpoint_end("adm"); }, "end") != ErrorCode::not_found) ::_exit(4);
    powerless.endpoint_create(spec("own"));
    ::_exit(powerless.endpoints().size() == 1 ? 0 : 5);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(root.endpoints().size(), 2U);
}

TEST_F(EndpointTest, QuotaOfAnEndpointAndOfItsMakerBothHold) {
  constexpr int kRacers = 16;
  constexpr std::uint64_t kEach = 5;
  constexpr std::uint64_t kTogether = 13;
  BrokerProcess broker(open_policy("[[rule]]\nuser = " + std::to_string(kMaker) +
                                   "\nverbs = [\"endpoint\"]\n[[quota]]\nuser = " + std::to_string(kMaker) +
                                   "\nregions = " + std::to_string(kTogether) + "\n"));
  broker.start();
  ASSERT_EQ(as_user(kMaker,
                    [&] {
                      Client maker = broker.connect();
                      for (int i = 0; i < 4; ++i) {
                        EndpointSpec wanted = spec("e" + std::to_string(i));
                        wanted.limits.regions = kEach;
                        maker.endpoint_create(wanted);
                      }
                      return 0;
                    }),
            0);
  std::vector<pid_t> racers;
  for (int i = 0; i < kRacers; ++i) {
    const pid_t child = ::fork();
    if (child != 0) {
      racers.push_back(child);
      continue;
    }
    int odd = 1;
    try {
      Client client = through(broker, place_of(kMaker, "e" + std::to_string(i % 4)));
      for (int n = 0;; ++n) client.create(region("race/" + std::to_string(i) + "-" + std::to_string(n)));
    } catch (const Error& error) {
      odd = error.code() == ErrorCode::over_quota ? 0 : 1;
    }
    ::_exit(odd);
  }
  for (const pid_t racer : racers) {
    int status = 0;
    ::waitpid(racer, &status, 0);
    EXPECT_EQ(status, 0);
  }
  Client root = broker.connect();
  std::uint64_t all = 0;
  for (const EndpointInfo& one : root.endpoints()) {
    EXPECT_LE(one.regions, kEach) << one.spec.id;
    all += one.regions;
  }
  EXPECT_EQ(all, kTogether);
  EXPECT_EQ(root.list("race/**").size(), kTogether);
}

TEST_F(EndpointTest, ThePolicyLimitsEachEndpointThatItNames) {
  BrokerProcess broker(open_policy("[[quota]]\nendpoint = \"c-*\"\nregions = 2\n"));
  broker.start();
  Client root = broker.connect();
  EndpointSpec generous = spec("c-1");
  generous.limits.regions = 100;
  root.endpoint_create(generous);
  root.endpoint_create(spec("other"));
  Client limited = through(broker, "c-1");
  limited.create(region("x/1"));
  limited.create(region("x/2"));
  EXPECT_EQ(refused([&] { limited.create(region("x/3")); }, "one more"), ErrorCode::over_quota);
  Client free = through(broker, "other");
  for (int i = 0; i < 3; ++i) free.create(region("y/" + std::to_string(i)));
}

TEST_F(EndpointTest, ARestartKeepsItAndWhoHasItsDirectory) {
  BrokerProcess broker;
  broker.start();
  Fd mount;
  std::uint32_t principal = 0;
  {
    Client root = broker.connect();
    EndpointSpec wanted = spec("c1", {"c1/**"});
    wanted.limits.regions = 1;
    wanted.labels = {{"namespace", "db"}};
    wanted.ttl = 1h;
    principal = root.endpoint_create(wanted).principal;
    mount = root.endpoint_directory("c1");
    at(by_descriptor(mount)).create(region("c1/x"));
  }
  broker.kill_broker();
  broker.start();
  Client client = at(by_descriptor(mount));
  ASSERT_EQ(client.list().size(), 1U);
  EXPECT_EQ(client.list().front().owner, principal);
  EXPECT_EQ(refused([&] { client.create(region("c1/y")); }, "beyond its limit"), ErrorCode::over_quota);
  const EndpointInfo info = broker.connect().endpoint("c1");
  EXPECT_EQ(info.spec.labels, (std::vector<Label>{{"namespace", "db"}}));
  EXPECT_EQ(info.regions, 1U);
  EXPECT_LE(*info.remaining, 1h);
  EXPECT_GT(*info.remaining, 50min);
}

/// Of the process so far, with all its threads: neighbours leave that alone.
std::chrono::milliseconds processor_time_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(text.substr(std::min(text.rfind(')') + 2, text.size())));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;
  long user = 0;
  long system = 0;
  fields >> user >> system;
  return std::chrono::milliseconds((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
}

// Before the broker's own socket answers, which is when start() returns.
TEST_F(EndpointTest, FiveHundredListenWithASecondOfAStartsWork) {
  BrokerProcess broker;
  broker.start();
  {
    Client root = broker.connect();
    for (int i = 0; i < 500; ++i) root.endpoint_create(spec("e" + std::to_string(i)));
  }
  BrokerProcess plain;
  plain.start();
  for (const bool keeper_has_them : {true, false}) {
    if (keeper_has_them) broker.kill_broker();
    if (!keeper_has_them) broker.kill_both();
    plain.kill_broker();
    plain.start();
    broker.start();
    EXPECT_LT(processor_time_of(broker.pid()) - processor_time_of(plain.pid()), 1s) << keeper_has_them;
    EXPECT_EQ(broker.connect().endpoints().size(), 500U);
    for (int i = 0; i < 500; i += 7) EXPECT_NO_THROW(through(broker, "e" + std::to_string(i)).list());
  }
}

TEST_F(EndpointTest, WhatCannotBeIsRefusedInASentence) {
  BrokerProcess broker;
  broker.start();
  const auto fails = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"endpoint", "create"});
    const CommandResult result = mapcap(broker, words);
    EXPECT_EQ(result.status, 1) << result.out;
    return result.err;
  };
  EXPECT_THAT(fails({"Big"}), HasSubstr("use 1 to 64 of a-z"));
  EXPECT_THAT(fails({".."}), HasSubstr("begins with '.'"));
  EXPECT_THAT(fails({"e", "--names", "/x"}), HasSubstr("matches no name"));
  EXPECT_THAT(fails({"e", "--pool", "drum"}), HasSubstr("did you mean \"dram\"?"));
  EXPECT_THAT(fails({"e", "--verbs", "opne"}), HasSubstr("did you mean \"open\"?"));
  EXPECT_THAT(fails({"e", "--verbs", "quota-set"}), HasSubstr("no endpoint can have the verb quota-set"));
  EXPECT_THAT(fails({"e", "--label", "a=b c"}), HasSubstr("1 to 63 of"));
  EXPECT_THAT(fails({"e", "--ttl", "10ms"}), HasSubstr("at least 1 s"));
  EXPECT_EQ(mapcap(broker, {"endpoint", "end", "nobody"}).status, 1);
  EXPECT_EQ(mapcap(broker, {"endpoint", "create"}).status, 2);
}

TEST_F(EndpointTest, AProgramThatIsRunWithItFindsThisSocketAndNoOther) {
  BrokerProcess broker;
  broker.start();
  ASSERT_EQ(mapcap(broker, {"endpoint", "create", "e", "--names", "e/**", "--bytes", "1M", "--label", "a=b"})
                .status,
            0);
  const CommandResult listed = mapcap(broker, {"endpoint", "list"});
  EXPECT_THAT(listed.out, HasSubstr("e/**"));
  EXPECT_THAT(mapcap(broker, {"--json", "endpoint", "show", "e"}).out, HasSubstr("\"labels\":{\"a\":\"b\"}"));
  const auto run = [&](const std::string& script, uid_t uid = 0) {
    return mapcap(broker, {"endpoint", "run", "e", "--", "/bin/sh", "-c", script}, uid);
  };
  const std::string tool = MAPCAP_PATH;
  const CommandResult created = run(tool + " create e/x --size 4K && " + tool + " create f/x --size 4K");
  EXPECT_THAT(created.out, HasSubstr("created e/x"));
  EXPECT_THAT(created.err, HasSubstr("endpoint e does not allow create f/x"));
  EXPECT_EQ(created.status, 1) << "the program's own";
  // The broker's own socket is not where it was.
  EXPECT_NE(run("test -S " + broker.socket()).status, 0);
  EXPECT_EQ(run("test -S " + broker.directory() + "/mapcap.sock").status, 0);
  EXPECT_EQ(::access(broker.socket().c_str(), F_OK), 0) << "and where it was for everybody else";
  EXPECT_EQ(run("exit 7").status, 7);
  EXPECT_EQ(mapcap(broker, {"endpoint", "run", "e", "--", "/nonexistent"}).status, 127);
}

}  // namespace
}  // namespace mapcap::test
