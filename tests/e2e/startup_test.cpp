// What keeps mapcapd from starting is said in one sentence that says what to do; nothing is half started.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using testing::HasSubstr;

class StartupTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    std::string pattern = "/tmp/mapcap-startup.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    ::chmod(directory_.c_str(), 0755);
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }

  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }

  /// Starts mapcapd, which must refuse within the deadline of run_command's caller.
  CommandResult refused(std::vector<std::string> arguments, uid_t uid = 0) {
    arguments.insert(arguments.begin(), {"timeout", std::to_string(kPatience.count()), MAPCAPD_PATH});
    const bool has_state = std::find(arguments.begin(), arguments.end(), "--state") != arguments.end();
    const bool has_socket = std::find(arguments.begin(), arguments.end(), "--socket") != arguments.end();
    if (!has_state) arguments.insert(arguments.end(), {"--state", path("state")});
    if (!has_socket) arguments.insert(arguments.end(), {"--socket", path("socket")});
    CommandResult result = run_command(arguments, {}, uid);
    EXPECT_EQ(result.status, 1) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1)
        << "not one sentence: " << result.err;
    EXPECT_TRUE(has_socket || !std::filesystem::exists(path("socket"))) << "its socket stayed behind";
    EXPECT_TRUE(has_state || processes_of(path("state")).empty()) << "a process stayed behind";
    return result;
  }
  CommandResult refused_policy(const std::string& text) {
    write("policy.toml", text);
    return refused({"--policy", path("policy.toml")});
  }

  /// Processes that were started with the words: a keeper keeps its broker's command line.
  static std::vector<std::string> processes_of(const std::string& words) {
    std::vector<std::string> found;
    for (const auto& process : std::filesystem::directory_iterator("/proc")) {
      std::ifstream file(process.path() / "cmdline");
      std::string line;
      std::getline(file, line);  // Not by iterators: they throw when a process ends before it is read.
      if (line.find(words) != std::string::npos) found.push_back(process.path());
    }
    return found;
  }

  std::string directory_;
};

TEST_F(StartupTest, AnUnprivilegedUserIsToldToBeRoot) {
  EXPECT_THAT(refused({}, 65534).err, HasSubstr("as root"));
}

TEST_F(StartupTest, AMissingCapabilityIsNamed) {
  const CommandResult result = run_command({"setpriv", "--bounding-set=-sys_admin", MAPCAPD_PATH, "--state",
                                            path("state"), "--socket", path("socket")});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("CAP_SYS_ADMIN"));
}

TEST_F(StartupTest, AStateDirectoryThatOthersMayWriteIsRefused) {
  ASSERT_EQ(::mkdir(path("state").c_str(), 0700), 0);
  ASSERT_EQ(::chmod(path("state").c_str(), 0777), 0);
  EXPECT_THAT(refused({}).err, HasSubstr("writable by nobody else"));
}

TEST_F(StartupTest, APolicyThatSomebodyElseCouldChangeOrReplaceIsRefused) {
  write("policy.toml", open_policy());
  const std::string file = path("policy.toml");
  const auto why = [&] { return refused({"--policy", file}).err; };
  ASSERT_EQ(::chown(file.c_str(), 64001, 0), 0);
  EXPECT_THAT(why(), HasSubstr("belongs to user 64001, who could change it"));
  ASSERT_EQ(::chown(file.c_str(), 0, 0), 0);
  ASSERT_EQ(::chmod(file.c_str(), 0664), 0);
  EXPECT_THAT(why(), HasSubstr("may be written by group 0: chmod g-w it"));
  const CommandResult checked = run_command({MAPCAP_PATH, "policy", "check", file});
  EXPECT_EQ(checked.status, 0) << checked.err;
  EXPECT_THAT(checked.out, HasSubstr("may be written by group 0"));
  ASSERT_EQ(::chmod(file.c_str(), 0644), 0);
  ASSERT_EQ(::chmod(directory_.c_str(), 0777), 0);
  EXPECT_THAT(
      refused({"--policy", file, "--state", "/tmp/mapcap-not-made", "--socket", "/tmp/mapcap-not-made/s"})
          .err,
      HasSubstr("the directory " + directory_ + " may be written by others"));
}

TEST_F(StartupTest, AStateOrSocketBelowADirectoryThatOthersMayWriteIsRefused) {
  ASSERT_EQ(::mkdir(path("open").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(path("open/below").c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path("open").c_str(), 0777), 0);
  EXPECT_THAT(refused({"--state", path("open/below/state")}).err, HasSubstr("may be written by others"));
  EXPECT_THAT(refused({"--socket", path("open/below/socket")}).err, HasSubstr("may be written by others"));
  ASSERT_EQ(::chmod(path("open").c_str(), 0755), 0);
}

TEST_F(StartupTest, AStateDirectoryThatIsAFileOrCannotBeMadeIsNamed) {
  write("file", "x");
  EXPECT_THAT(refused({"--state", path("file")}).err, HasSubstr(path("file")));
  EXPECT_THAT(refused({"--state", path("no/such/parent")}).err, HasSubstr("make its parent"));
  EXPECT_THAT(refused({"--state", "/proc/mapcap"}).err, HasSubstr("/proc/mapcap"));
}

TEST_F(StartupTest, ASocketPathInUseTooLongOrTakenByAFileIsRefused) {
  BrokerProcess other;
  other.start();
  EXPECT_THAT(refused({"--socket", other.socket()}).err, HasSubstr("another broker serves"));
  EXPECT_THAT(refused({"--socket", path(std::string(200, 's'))}).err, HasSubstr("1 to 107 bytes"));
  write("file", "x");
  EXPECT_THAT(refused({"--socket", path("file")}).err, HasSubstr("is no socket"));
  EXPECT_TRUE(std::filesystem::exists(path("file"))) << "somebody's file was removed";
}

TEST_F(StartupTest, ASocketDirectoryWhereOthersCouldReplaceTheSocketIsRefused) {  // Promise 11
  const std::string directory = path("run");
  ASSERT_EQ(::mkdir(directory.c_str(), 0755), 0);
  ASSERT_EQ(::chown(directory.c_str(), 64001, 64001), 0);
  EXPECT_THAT(refused({"--socket", directory + "/socket"}).err, HasSubstr("must belong to root"));
  ASSERT_EQ(::chown(directory.c_str(), 0, 0), 0);
  for (const mode_t mode : {0775, 0757, 01777}) {
    ASSERT_EQ(::chmod(directory.c_str(), mode), 0);
    EXPECT_THAT(refused({"--socket", directory + "/socket"}).err, HasSubstr("writable by nobody else"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory));
}

TEST_F(StartupTest, ALinkInTheSocketsPlaceIsNeitherFollowedNorRemoved) {
  write("precious", "bytes");
  ASSERT_EQ(::chmod(path("precious").c_str(), 0600), 0);
  ASSERT_EQ(::symlink(path("precious").c_str(), path("link").c_str()), 0);
  EXPECT_THAT(refused({"--socket", path("link")}).err, HasSubstr("is no socket"));
  struct stat status {};
  ASSERT_EQ(::stat(path("precious").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  EXPECT_TRUE(std::filesystem::is_symlink(path("link")));
}

TEST_F(StartupTest, ASecondBrokerOnTheSameStateIsRefusedAndTheFirstGoesOn) {
  BrokerProcess first;
  first.start();
  EXPECT_THAT(refused({"--state", first.state()}).err, HasSubstr("another mapcapd uses"));
  EXPECT_NO_THROW(first.connect().pools());
}

TEST_F(StartupTest, AStaleSocketOfADeadBrokerIsReplaced) {
  BrokerProcess broker;
  broker.start();
  broker.kill_broker();
  EXPECT_TRUE(std::filesystem::exists(broker.socket()));
  broker.start();
  EXPECT_NO_THROW(broker.connect().pools());
}

TEST_F(StartupTest, SignalsThatItsStarterBlockedReachIt) {
  BrokerProcess broker;
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  for (const int number : {SIGHUP, SIGTERM}) sigaddset(&blocked, number);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  broker.start();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  broker.signal(SIGHUP);
  EXPECT_TRUE(comes_true([&] { return broker.log().find("policy reloaded") != std::string::npos; }))
      << broker.log();
  broker.signal(SIGTERM);
  EXPECT_TRUE(broker.await_end());
}

TEST_F(StartupTest, ASignalThatItsStarterIgnoredEndsItsStart) {
  ASSERT_EQ(::mkdir(path("state").c_str(), 0700), 0);
  // A keeper that never answers: the start waits for it.
  const int keeper = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path("state/keeper.sock").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(keeper, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(keeper, 1), 0);
  const std::string state = path("state");
  const std::string socket = path("socket");
  const pid_t broker = ::fork();
  if (broker == 0) {
    std::signal(SIGTERM, SIG_IGN);
    ::execl(MAPCAPD_PATH, "mapcapd", "--state", state.c_str(), "--socket", socket.c_str(), nullptr);
    ::_exit(127);
  }
  pollfd connected{keeper, POLLIN, 0};
  EXPECT_EQ(::poll(&connected, 1, kPatienceMs), 1);
  ::kill(broker, SIGTERM);
  int status = 0;
  ASSERT_EQ(::waitpid(broker, &status, 0), broker);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << "it went on: " << status;
  ::close(keeper);
}

TEST_F(StartupTest, AForeignLedgerIsRefusedAndLeftAsItIs) {
  ASSERT_EQ(::mkdir(path("state").c_str(), 0700), 0);
  write("state/ledger", std::string(8192, 'x'));
  EXPECT_THAT(refused({}).err, HasSubstr("ledger"));
  std::ifstream file(path("state/ledger"));
  const std::string left((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT_EQ(left, std::string(8192, 'x'));
}

TEST_F(StartupTest, APolicyErrorNamesFileLineAndColumn) {
  const std::string where = path("policy.toml") + ":";
  EXPECT_THAT(refused_policy("[pool.dram]\nbacking = \"memory\"\ncapacity = \"1G\"\nnonsense = 1\n").err,
              HasSubstr(where + "4:1"));
  EXPECT_THAT(refused_policy("[pool.dram\n").err, HasSubstr(where + "1:"));
  EXPECT_THAT(refused_policy("[pool.dram]\nbacking = \"memory\"\ncapacity = \"a lot\"\n").err,
              HasSubstr(where + "3:"));
}

TEST_F(StartupTest, APoolLargerThanTheMachinesMemoryIsRefusedWithItsLine) {
  const CommandResult result = refused_policy("[pool.dram]\nbacking = \"memory\"\ncapacity = \"1000T\"\n");
  EXPECT_THAT(result.err, HasSubstr("more than this machine's memory"));
  EXPECT_THAT(result.err, HasSubstr("policy.toml:1"));
}

TEST_F(StartupTest, PoolsThatTogetherAreMoreThanTheMachinesMemoryAreRefusedAtStartAndByTheCheck) {
  // Each fits by itself.
  const std::string pools =
      "[pool.a]\nbacking = \"memory\"\ncapacity = \"60%\"\n[pool.b]\nbacking = \"memory\"\ncapacity = \"" +
      std::to_string(static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) / 2 * 4096) + "\"\n";
  for (const CommandResult& result :
       {refused_policy(pools), run_command({MAPCAP_PATH, "policy", "check", path("policy.toml")})}) {
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(result.err, HasSubstr("the memory pools together take"));
    EXPECT_THAT(result.err, HasSubstr("policy.toml:4"));
  }
}

TEST_F(StartupTest, ARecordInAPoolThatThePolicyNoLongerHasIsNotForgotten) {
  BrokerProcess broker;
  broker.start();
  RegionSpec wanted;
  wanted.name = "root/kept";
  wanted.size = 4096;
  wanted.lifetime = Lifetime::persistent();
  broker.connect().create(wanted);
  broker.kill_broker();
  write("policy.toml", "[pool.other]\nbacking = \"memory\"\ncapacity = \"1G\"\n");
  const CommandResult result = refused({"--policy", path("policy.toml"), "--state", broker.state()});
  EXPECT_THAT(result.err, HasSubstr("root/kept"));
  EXPECT_THAT(result.err, HasSubstr("pool dram"));
  broker.start();
  EXPECT_EQ(broker.connect().list().size(), 1U);
}

TEST_F(StartupTest, WrongUsageEndsWithStatus2) {
  EXPECT_EQ(run_command({MAPCAPD_PATH, "--no-such-option"}).status, 2);
  EXPECT_EQ(run_command({MAPCAP_PATH, "no-such-command"}).status, 2);
  EXPECT_EQ(run_command({MAPCAP_PATH, "create"}).status, 2);
  EXPECT_EQ(run_command({MAPCAPD_PATH, "--version"}).status, 0);
}

TEST_F(StartupTest, CheckLedgerChangesNothingAndSaysWhatItFound) {
  BrokerProcess broker;
  broker.start();
  RegionSpec wanted;
  wanted.name = "root/counted";
  wanted.size = 4096;
  wanted.lifetime = Lifetime::persistent();
  broker.connect().create(wanted);
  broker.kill_broker();
  const CommandResult sound = run_command({MAPCAPD_PATH, "--check-ledger", "--state", broker.state()});
  EXPECT_EQ(sound.status, 0) << sound.err;
  EXPECT_THAT(sound.out, HasSubstr("1 regions"));
  EXPECT_EQ(run_command({MAPCAPD_PATH, "--check-ledger", "--state", path("nowhere")}).status, 1);
}

class DoctorTest : public StartupTest {
 protected:
  /// `mapcap doctor` for a broker that would start with path("state") and path("socket").
  [[nodiscard]] CommandResult doctor(std::vector<std::string> before = {}, std::string state = {},
                                     std::string socket = {}, uid_t uid = 0) const {
    if (state.empty()) state = path("state");
    if (socket.empty()) socket = path("socket");
    before.insert(before.end(), {MAPCAP_PATH, "--socket", socket, "doctor", "--state", state});
    return run_command(before, {}, uid);
  }
  static void expect_no(const CommandResult& result, const std::string& why) {
    EXPECT_EQ(result.status, 1) << result.out;
    EXPECT_THAT(result.out, HasSubstr(why));
    EXPECT_THAT(result.out, HasSubstr("mapcapd cannot serve the default policy here"));
  }
};

TEST_F(DoctorTest, SaysThatABrokerCanStartWhereOneCan) {
  const CommandResult well = doctor();
  EXPECT_EQ(well.status, 0) << well.out;
  EXPECT_THAT(well.out, HasSubstr("mapcapd can serve the default policy here"));
  EXPECT_FALSE(std::filesystem::exists(path("state"))) << "it left something behind";
}

TEST_F(DoctorTest, NamesAMissingCapability) {
  expect_no(doctor({"setpriv", "--bounding-set=-sys_admin"}), "CAP_SYS_ADMIN is missing");
  expect_no(doctor({}, {}, {}, 65534), "start mapcapd as root");
}

TEST_F(DoctorTest, NamesAStateDirectoryThatTheBrokerWouldRefuse) {
  write("file", "x");
  expect_no(doctor({}, path("file")), path("file") + " is no directory");
  expect_no(doctor({}, path("no/such/parent")), path("no/such"));
  ASSERT_EQ(::mkdir(path("loose").c_str(), 0700), 0);
  ASSERT_EQ(::chmod(path("loose").c_str(), 0777), 0);
  expect_no(doctor({}, path("loose")), "does not belong to root alone");
}

TEST_F(DoctorTest, NamesASocketPathThatTheBrokerWouldRefuse) {
  write("file", "x");
  expect_no(doctor({}, {}, path("file")), path("file") + " is no socket");
  expect_no(doctor({}, {}, path(std::string(200, 's'))), "1 to 107 bytes");
}

TEST_F(DoctorTest, SaysWhoUsesASocketAndAStateDirectoryAlready) {
  BrokerProcess first;
  first.start();
  const CommandResult result = doctor({}, first.state(), first.socket());
  EXPECT_EQ(result.status, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr("in use by the mapcapd with process id " + std::to_string(first.pid())));
  EXPECT_THAT(result.out, HasSubstr("answers at " + first.socket()));
}

TEST_F(StartupTest, ACommandWaitsForABrokerThatIsBeingStartedAgain) {
  BrokerProcess broker;
  broker.start();
  // It waits for two seconds: an attempt in which the broker took longer says nothing.
  for (bool judged = false; !judged && !HasFailure();) {
    broker.kill_broker();
    CommandResult result;
    const auto began = std::chrono::steady_clock::now();
    std::thread command([&] { result = run_command({MAPCAP_PATH, "--socket", broker.socket(), "pools"}); });
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // the command finds nobody
    broker.start();
    judged = std::chrono::steady_clock::now() - began < std::chrono::milliseconds(1500);
    command.join();
    if (judged) {
      EXPECT_EQ(result.status, 0) << result.err;
    }
  }
}

}  // namespace
}  // namespace mapcap::test
