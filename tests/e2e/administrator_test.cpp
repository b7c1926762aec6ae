// Promise 13: under the shipped policy the machine's root keeps everything, and a root without the machine's
// power is a user called root: no administration, no sight of others' regions.
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "schema/channel.h"
#include "schema/codec.h"
#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using Words = std::vector<std::string>;

std::string shipped_policy() {
  return run_command({MAPCAP_PATH, "policy", "default"}).out;
}

bool installed(const std::string& program) {
  return run_command({"/bin/sh", "-c", "command -v " + program}).status == 0;
}

class AdministratorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker_.start();
    ASSERT_EQ(mapcap(broker_, {"create", "daemon/private", "--size", "1M", "--mode", "0600"}, kDaemon).status,
              0);
  }

  /// Runs `mapcap WORDS` by way of `wrapper`, a command that runs what it is given.
  [[nodiscard]] CommandResult by(const Words& wrapper, const Words& words) const {
    Words command = wrapper;
    for (const std::string& word : {std::string(MAPCAP_PATH), std::string("--socket"), broker_.socket()})
      command.push_back(word);
    command.insert(command.end(), words.begin(), words.end());
    return run_command(command);
  }

  void expect_an_ordinary_user(const std::string& who,
                               const std::function<CommandResult(const Words&)>& run) {
    SCOPED_TRACE(who);
    const CommandResult own = run({"create", "root/" + who, "--size", "4K"});
    EXPECT_EQ(own.status, 0) << own.err;
    const CommandResult listed = run({"list"});
    EXPECT_EQ(listed.status, 0) << listed.err;
    EXPECT_EQ(listed.out.find("daemon/private"), std::string::npos) << listed.out;
    for (const Words& words :
         {Words{"show", "daemon/private"}, Words{"revoke", "daemon/private"},
          Words{"create", "daemon/other", "--size", "4K"},
          Words{"quota", "set", "--user", "1", "--regions", "7"}, Words{"quota", "clear", "--user", "1"}}) {
      const CommandResult refused = run(words);
      EXPECT_EQ(refused.status, 1) << words[0] << ": " << refused.out;
    }
    const CommandResult quota = run({"quota", "set", "--user", "1", "--regions", "7"});
    EXPECT_NE(quota.err.find("no administrator"), std::string::npos) << quota.err;
    const std::string told = run({"--json", "quota"}).out;
    EXPECT_EQ(told.find("daemon"), std::string::npos) << "what others use is not root's to know";
  }

  static constexpr uid_t kDaemon = 1;
  BrokerProcess broker_{shipped_policy()};
};

TEST_F(AdministratorTest, TheMachinesRootKeepsEverything) {
  EXPECT_NE(mapcap(broker_, {"list"}).out.find("daemon/private"), std::string::npos);
  EXPECT_EQ(mapcap(broker_, {"show", "daemon/private"}).status, 0);
  EXPECT_EQ(mapcap(broker_, {"quota", "set", "--user", "1", "--regions", "7"}).status, 0);
  EXPECT_NE(mapcap(broker_, {"quota"}).out.find("daemon"), std::string::npos);
  EXPECT_EQ(mapcap(broker_, {"revoke", "daemon/private"}).status, 0);
}

TEST_F(AdministratorTest, RootWithoutCapabilitiesIsAUser) {
  expect_an_ordinary_user("empty", [&](const Words& words) {
    return by({"setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"}, words);
  });
}

TEST_F(AdministratorTest, RootOfAUserNamespaceIsAUser) {
  if (run_command({"unshare", "-Ur", "true"}).status != 0) GTEST_SKIP() << "no user namespaces";
  expect_an_ordinary_user("mapped", [&](const Words& words) { return by({"unshare", "-Ur"}, words); });
}

/// All ids mapped to themselves: to /proc/PID/uid_map and CapEff that is the initial namespace.
TEST_F(AdministratorTest, RootOfAUserNamespaceThatLooksLikeTheInitialOneIsAUser) {
  const auto run = [&](const Words& words) {
    std::array<int, 2> made{};
    std::array<int, 2> mapped{};
    EXPECT_EQ(::pipe(made.data()) | ::pipe(mapped.data()), 0);
    const pid_t keeper = ::fork();
    if (keeper == 0) {
      const bool own = ::unshare(CLONE_NEWUSER) == 0;
      (void)!::write(made[1], own ? "y" : "n", 1);
      char go = 0;
      (void)!::read(mapped[0], &go, 1);
      ::pause();
      ::_exit(0);
    }
    char own = 'n';
    EXPECT_EQ(::read(made[0], &own, 1), 1);
    for (const char* map : {"uid_map", "gid_map"}) {
      std::ofstream file("/proc/" + std::to_string(keeper) + "/" + map);
      file << "0 0 4294967295";
    }
    const CommandResult result = by({"nsenter", "-U", "-t", std::to_string(keeper)}, words);
    ::kill(keeper, SIGKILL);
    ::waitpid(keeper, nullptr, 0);
    for (const int fd : {made[0], made[1], mapped[0], mapped[1]}) ::close(fd);
    return result;
  };
  if (run({"--version"}).status != 0) GTEST_SKIP() << "no user namespaces";
  expect_an_ordinary_user("identity", run);
}

TEST_F(AdministratorTest, RootOfAPrivilegedContainerIsAUser) {
  if (run_command({"unshare", "-pf", "true"}).status != 0) GTEST_SKIP() << "no pid namespaces";
  expect_an_ordinary_user("pids", [&](const Words& words) { return by({"unshare", "-pf"}, words); });
}

/// What a service manager does for OpenFile=: it connects as root, then becomes the service.
TEST_F(AdministratorTest, WhoGaveItsPowerUpAfterItConnectedIsAUser) {
  const auto quota_set_as = [&](uid_t uid) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto socket = schema::connect_to(broker_.socket());
      if (!socket || ::setresuid(uid, uid, uid) != 0) ::_exit(100);
      schema::QuotaSet quota{{SubjectKind::user, kDaemon, ""}, {}};
      quota.limits.regions = 7;
      int answer = 101;
      for (const schema::RequestBody& body :
           {schema::RequestBody(schema::Hello{}), schema::RequestBody(quota)}) {
        (void)schema::send(socket.value().borrow(), schema::encode(schema::Request{1, body}));
        pollfd waiting{socket.value().get(), POLLIN, 0};
        if (::poll(&waiting, 1, kPatienceMs) != 1) ::_exit(102);
        auto received = schema::receive(socket.value().borrow(), schema::kMaxPacket, 1);
        if (!received || !std::holds_alternative<schema::Incoming>(received.value())) ::_exit(103);
        const auto reply = schema::decode_from_broker(std::get<schema::Incoming>(received.value()).bytes);
        if (!reply) ::_exit(104);
        const auto* error = std::get_if<Failure>(&std::get<schema::Reply>(reply.value()).body);
        answer = error != nullptr ? static_cast<int>(error->code) : 0;
      }
      ::_exit(answer);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  EXPECT_EQ(quota_set_as(0), 0);
  EXPECT_EQ(quota_set_as(65534), static_cast<int>(ErrorCode::denied));
}

// ---- a container as engines make it

class ContainerTest : public AdministratorTest {
 protected:
  /// `user_namespace`: the lines of config.json that make one, or nothing.
  CommandResult run_contained(const Words& words, bool user_namespace) {
    namespace fs = std::filesystem;
    std::string bundle = broker_.directory() + "/bundle.XXXXXX";
    if (::mkdtemp(bundle.data()) == nullptr) return {};
    fs::permissions(bundle, fs::perms(0755));
    const std::string root = bundle + "/rootfs";
    std::string mounts = R"({"destination":"/proc","type":"proc","source":"proc"})";
    for (const std::string& path : {std::string("/usr"), std::string("/lib"), std::string("/lib64"),
                                    fs::path(MAPCAP_PATH).parent_path().string(), broker_.directory()}) {
      if (!fs::exists(path)) continue;
      fs::create_directories(root + path);
      mounts += R"(,{"destination":")" + path + R"(","type":"none","source":")" + path +
                R"(","options":["rbind","ro"]})";
    }
    fs::create_directories(root + "/proc");
    std::string args = std::string("\"") + MAPCAP_PATH + "\",\"--socket\",\"" + broker_.socket() + "\"";
    for (const std::string& word : words) args += ",\"" + word + "\"";
    const std::string caps =
        R"(["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_MKNOD","CAP_NET_RAW","CAP_SETGID",)"
        R"("CAP_SETUID","CAP_SETFCAP","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_KILL",)"
        R"("CAP_AUDIT_WRITE"])";
    std::ofstream(bundle + "/config.json")
        << R"({"ociVersion":"1.0.2","process":{"terminal":false,"user":{"uid":0,"gid":0},"args":[)" << args
        << R"(],"env":["PATH=/usr/bin:/bin"],"cwd":"/","capabilities":{"bounding":)" << caps
        << R"(,"effective":)" << caps << R"(,"permitted":)" << caps
        << R"(},"noNewPrivileges":true},"root":{"path":"rootfs","readonly":true},"hostname":"c","mounts":[)"
        << mounts
        << R"(],"linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"uts"},{"type":"ipc"})"
        << (user_namespace ? R"(,{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":0,"size":65536}],)"
                             R"("gidMappings":[{"containerID":0,"hostID":0,"size":65536}]}})"
                           : "]}}");
    const std::string name = "mapcap-test-" + std::to_string(::getpid()) + "-" + std::to_string(next_++);
    return run_command({"runc", "--root", broker_.directory() + "/runc", "run", "--bundle", bundle, name});
  }

  void expect_ordinary_in_a_container(const std::string& who, bool user_namespace) {
    if (!installed("runc")) GTEST_SKIP() << "runc is not installed";
    const CommandResult can = run_contained({"--version"}, user_namespace);
    if (can.status != 0) GTEST_SKIP() << "runc cannot run a container here: " << can.err;
    expect_an_ordinary_user(who, [&](const Words& words) { return run_contained(words, user_namespace); });
  }

 private:
  int next_ = 0;
};

TEST_F(ContainerTest, RootOfAContainerIsAUser) {
  expect_ordinary_in_a_container("container", false);
}

TEST_F(ContainerTest, RootOfAContainerWithAUserNamespaceIsAUser) {
  expect_ordinary_in_a_container("userns", true);
}

}  // namespace
}  // namespace mapcap::test
