// <mapcap/testing.h> and mapcap_dev_start(): a broker of a test's own, by one call, of which nothing is left.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <mapcap/testing.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

namespace fs = std::filesystem;
using testing::PrivateBroker;
using testing::PrivateBrokerOptions;

constexpr uid_t kNobody = 65534;

PrivateBrokerOptions of_this_build() {
  PrivateBrokerOptions options;
  options.command = MAPCAP_PATH;
  return options;
}

RegionSpec spec_of(std::string name) {
  RegionSpec spec;
  spec.name = std::move(name);
  spec.size = 4096;
  return spec;
}

/// A TMPDIR of the test's own: broker, keeper and examiner have it in their command lines.
class PrivateBrokerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(directory_.data()), nullptr);
    ASSERT_EQ(::chmod(directory_.c_str(), 01777), 0);
    if (const char* before = std::getenv("TMPDIR")) before_ = before;
    ::setenv("TMPDIR", directory_.c_str(), 1);
  }
  void TearDown() override {
    before_.empty() ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", before_.c_str(), 1);
    fs::remove_all(directory_);
  }

  /// What there is of private brokers: files, and processes.
  [[nodiscard]] std::string left() const {
    std::string found;
    for (const auto& entry : fs::directory_iterator(directory_)) found += entry.path().string() + " ";
    for (const auto& process : fs::directory_iterator("/proc")) {
      std::ifstream file(process.path() / "cmdline");
      // Word by word, which takes an end of the process meanwhile for the end of its words.
      for (std::string word; std::getline(file, word, '\0');) {
        if (word.find(directory_ + "/") != std::string::npos) found += process.path().string() + " ";
      }
    }
    return found;
  }
  [[nodiscard]] static std::string of_c() {
    return fs::path(MAPCAP_C_INTERFACE_PATH).replace_filename("mapcap_c_private_broker");
  }

  std::string directory_ = "/tmp/mapcap-private.XXXXXX";
  std::string before_;
};

/// What a unit test does with one.
int use() {
  const PrivateBroker broker(of_this_build());
  Client client = broker.connect();
  Mapping mapping(client.create(spec_of("anybody/region"), Access::read_write));
  (void)mapping.memcpy_persist(0, std::as_bytes(std::span("hello")));
  const Client second = broker.connect();
  Mapping reader(client.open("anybody/region", Access::read_only));
  return std::memcmp(reader.bytes().data(), "hello", 5) == 0 ? 0 : 1;
}

TEST_F(PrivateBrokerTest, ServesFromOneCallAndLeavesNothing) {
  EXPECT_EQ(use(), 0);
  EXPECT_EQ(left(), "");
}

TEST_F(PrivateBrokerTest, NeedsNoRoot) {
  EXPECT_EQ(as_user(kNobody, use), 0);
  EXPECT_EQ(left(), "");
}

TEST_F(PrivateBrokerTest, OfNobodysIsSealedAndSaysSo) {
  EXPECT_EQ(as_user(kNobody,
                    [] {
                      const PrivateBroker broker(of_this_build());
                      Client client = broker.connect();
                      const Grant grant = client.create(spec_of("a/b"), Access::read_write);
                      return grant.info().confinement == Confinement::sealed ? 0 : 1;
                    }),
            0);
}

ErrorCode refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::malformed;
}

TEST_F(PrivateBrokerTest, OfNobodysServesEndpointsByTheirPathsAndSaysWhatItCannotDo) {
  EXPECT_EQ(as_user(kNobody,
                    [] {
                      const PrivateBroker broker(of_this_build());
                      Client client = broker.connect();
                      const Grant grant = client.create(spec_of("a/b"), Access::read_write);
                      EndpointSpec readers;
                      readers.id = "readers";
                      readers.names = {"a/**"};
                      readers.verbs = {"open"};
                      const EndpointInfo made = client.endpoint_create(readers);
                      ConnectOptions by_it;
                      by_it.socket = made.directory + "/mapcap.sock";
                      const Grant reader = Client::connect(by_it).open("a/b", Access::read_only);
                      const auto directory = [&] { (void)client.endpoint_directory("readers"); };
                      if (refusal(directory) != ErrorCode::unsupported) return 1;
                      const Fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
                      const auto clone = [&] { (void)client.clone(file.get(), Access::read_only); };
                      return refusal(clone) == ErrorCode::unsupported ? 0 : 2;
                    }),
            0);
  EXPECT_EQ(left(), "");
}

TEST_F(PrivateBrokerTest, TwoAreTwoAndMovingOneEndsWhatItWasMovedTo) {
  PrivateBroker one(of_this_build());
  PrivateBroker other(of_this_build());
  Client client = one.connect();
  const Grant grant = client.create(spec_of("a/b"), Access::read_write);
  const std::string socket = one.socket();
  other = std::move(one);
  EXPECT_EQ(other.socket(), socket);
  EXPECT_EQ(client.list("a/b").size(), 1U);
}

TEST_F(PrivateBrokerTest, SeveralThreadsHaveTheirOwn) {
  std::vector<int> results(3, -1);
  {
    std::vector<std::jthread> threads;
    for (int& result : results) threads.emplace_back([&result] { result = use(); });
  }
  EXPECT_EQ(results, std::vector<int>(3, 0));
  EXPECT_EQ(left(), "");
}

TEST_F(PrivateBrokerTest, AMappingOutlivesIt) {
  std::optional<Mapping> mapping;
  {
    const PrivateBroker broker(of_this_build());
    Client client = broker.connect();
    RegionSpec spec = spec_of("a/kept");
    spec.lifetime = Lifetime::persistent();  // Else it ends, and is zeroed, with its connection.
    mapping.emplace(client.create(spec, Access::read_write));
    (void)mapping->memcpy_persist(0, std::as_bytes(std::span("kept")));
  }
  EXPECT_EQ(left(), "");
  EXPECT_EQ(std::memcmp(mapping->bytes().data(), "kept", 4), 0);
}

TEST_F(PrivateBrokerTest, GoesWithAProcessThatIsKilled) {
  for (const uid_t user : {uid_t{0}, kNobody}) {
    EXPECT_EQ(as_user(user,
                      [] {
                        const PrivateBroker broker(of_this_build());
                        Client client = broker.connect();
                        const Grant grant = client.create(spec_of("a/b"), Access::read_write);
                        ::kill(::getpid(), SIGKILL);
                        return 0;
                      }),
              128 + SIGKILL);
    EXPECT_TRUE(comes_true([this] { return left().empty(); })) << left();
  }
}

TEST_F(PrivateBrokerTest, AChildThatEndsItsCopyTakesNothing) {
  const PrivateBroker broker(of_this_build());
  const pid_t child = ::fork();
  if (child == 0) {
    const_cast<PrivateBroker&>(broker).~PrivateBroker();
    ::_exit(0);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_NO_THROW((void)broker.connect().pools());
}

TEST_F(PrivateBrokerTest, SaysWhatIsMissing) {
  const auto code_of = [](std::string command) {
    PrivateBrokerOptions options;
    options.command = std::move(command);
    try {
      const PrivateBroker broker(std::move(options));
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode{};
  };
  EXPECT_EQ(code_of("/nonexistent/mapcap"), ErrorCode::not_found);
  EXPECT_EQ(code_of("false"), ErrorCode::unavailable);
}

TEST_F(PrivateBrokerTest, IsTheSameFromC) {
  for (const uid_t user : {uid_t{0}, kNobody}) {
    const CommandResult done = run_command({of_c(), MAPCAP_PATH}, {"TMPDIR=" + directory_}, user);
    EXPECT_EQ(done.status, 0) << done.out << done.err;
    EXPECT_EQ(left(), "");
    const CommandResult killed = run_command({of_c(), MAPCAP_PATH, "die"}, {"TMPDIR=" + directory_}, user);
    EXPECT_EQ(killed.status, 128 + SIGKILL) << killed.out << killed.err;
    EXPECT_TRUE(comes_true([this] { return left().empty(); })) << left();
  }
}

}  // namespace
}  // namespace mapcap::test
