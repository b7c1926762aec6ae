// DRAM regions over a restart of the whole service. A stand-in for the service manager speaks the real
// protocol: sd_notify(3) datagrams with FDSTORE=1 and SCM_RIGHTS in, LISTEN_FDS and LISTEN_FDNAMES out
// (sd_listen_fds(3)).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "mapcap/fd.h"
#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

class ServiceManager {
 public:
  explicit ServiceManager(const std::string& path)
      : path_(path), socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    // SAFETY: sockaddr_un is what the kernel reads behind this pointer.
    if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      ADD_FAILURE() << "bind";
    thread_ = std::thread([this] { serve(); });
  }
  ~ServiceManager() {
    stop_ = true;
    thread_.join();
  }
  [[nodiscard]] std::string variable() const { return "NOTIFY_SOCKET=" + path_; }
  std::size_t stored() {
    const std::lock_guard lock(mutex_);
    return store_.size();
  }
  [[nodiscard]] bool ready() const { return ready_; }

  /// Starts mapcapd as a service manager does after a crash: with what it has stored. Returns its process id.
  pid_t start_service(const std::vector<std::string>& arguments) {
    const std::lock_guard lock(mutex_);
    ready_ = false;
    const pid_t child = ::fork();
    if (child != 0) return child;
    std::string names;
    int next = 3;
    // Out of the way first, so that no dup2 hits a descriptor that is still to be moved.
    std::vector<int> moved;
    for (const auto& [name, fd] : store_) {
      names += (names.empty() ? "" : ":") + name;
      moved.push_back(::fcntl(fd.get(), F_DUPFD, 500));
    }
    for (const int fd : moved) ::dup2(fd, next++);
    ::close_range(static_cast<unsigned>(next), ~0U, 0);
    ::setenv("NOTIFY_SOCKET", path_.c_str(), 1);
    if (!moved.empty()) {
      ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
      ::setenv("LISTEN_FDS", std::to_string(moved.size()).c_str(), 1);
      ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
    }
    std::vector<std::string> words = arguments;
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }

 private:
  void serve() {
    while (!stop_) {
      pollfd waiting{socket_.get(), POLLIN, 0};
      if (::poll(&waiting, 1, 20) != 1) continue;
      std::array<char, 4096> text{};
      alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 16)> control{};
      iovec data{text.data(), text.size() - 1};
      msghdr message{};
      message.msg_iov = &data;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      if (::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC) < 0) continue;
      Fd fd;
      for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
           header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_type != SCM_RIGHTS) continue;
        int number = -1;
        std::memcpy(&number, CMSG_DATA(header), sizeof number);
        fd = Fd(number);
      }
      take(text.data(), std::move(fd));
    }
  }
  void take(const std::string& text, Fd fd) {
    const std::lock_guard lock(mutex_);
    if (text.find("READY=1") != std::string::npos) ready_ = true;
    const std::size_t at = text.find("FDNAME=");
    if (at == std::string::npos) return;
    const std::string name = text.substr(at + 7, text.find('\n', at) - at - 7);
    if (text.find("FDSTOREREMOVE=1") != std::string::npos) {
      store_.erase(name);
    } else if (text.find("FDSTORE=1") != std::string::npos) {
      store_[name] = std::move(fd);
    }
  }

  std::string path_;
  Fd socket_;
  std::mutex mutex_;
  std::map<std::string, Fd> store_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class FdStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  }
  /// Starts, waits for READY=1, and runs `body` with a client; then ends broker and keeper in the way given.
  void serve(ServiceManager& manager, const std::function<void(Client&)>& body, int signal) {
    const pid_t service =
        manager.start_service({MAPCAPD_PATH, "--policy", place_.directory() + "/policy.toml", "--state",
                               place_.state(), "--socket", place_.socket()});
    ASSERT_TRUE(comes_true([&] { return manager.ready(); })) << "no READY=1 came";
    {
      Client client = place_.connect();
      body(client);
    }
    ::kill(service, signal);
    ::waitpid(service, nullptr, 0);
    place_.kill_keeper();  // Last, or the broker would fork another. It outlives any end of the broker's.
  }

  BrokerProcess place_;  // Its directory and its policy; the manager starts the broker.
};

TEST_F(FdStoreTest, RegionsComeBackWithTheirContentsAfterARestartOfTheWholeService) {
  for (const int signal : {SIGTERM, SIGKILL}) {
    ServiceManager manager(place_.directory() + "/notify" + std::to_string(signal));
    RegionSpec wanted;
    wanted.name = "root/stored" + std::to_string(signal);
    wanted.size = 65536;
    wanted.lifetime = Lifetime::persistent();
    serve(
        manager,
        [&](Client& client) {
          Mapping mapping(client.create(wanted, Access::read_write));
          std::memcpy(mapping.writable().data(), "kept", 4);
          ASSERT_TRUE(comes_true([&] { return manager.stored() == 1; }));
        },
        signal);
    serve(
        manager,
        [&](Client& client) {
          {
            const Mapping mapping(client.open(wanted.name, Access::read_only));
            EXPECT_EQ(std::memcmp(mapping.bytes().data(), "kept", 4), 0);
          }
          EXPECT_EQ(client.pools().front().used, 65536U);
          client.revoke(wanted.name);
          EXPECT_TRUE(comes_true([&] { return manager.stored() == 0; }))
              << "a revoked region stayed in the store";
        },
        signal);
  }
}

TEST_F(FdStoreTest, WhatTheStoreHasNoPlaceForIsToldOfAndStaysWithTheKeeper) {
  ServiceManager manager(place_.directory() + "/notify");
  ::setenv("FDSTORE", "2", 1);  // As systemd 254 says it.
  serve(
      manager,
      [&](Client& client) {
        for (int i = 0; i < 3; ++i) {
          RegionSpec wanted;
          wanted.name = "root/" + std::to_string(i);
          wanted.size = 4096;
          wanted.lifetime = Lifetime::persistent();
          Mapping mapping(client.create(wanted, Access::read_write));
          *mapping.writable_at<int>(0) = i + 1;
        }
        EXPECT_TRUE(comes_true([&] { return manager.stored() == 2; }));
        client.revoke("root/0");
        EXPECT_TRUE(comes_true([&] { return manager.stored() == 1; }));
        RegionSpec wanted;
        wanted.name = "root/again";
        wanted.size = 4096;
        wanted.lifetime = Lifetime::persistent();
        client.create(wanted);
        EXPECT_TRUE(comes_true([&] { return manager.stored() == 2; })) << "the place that became free";
        const BrokerStatus status = client.status();
        ASSERT_TRUE(status.store);
        EXPECT_EQ(status.store->stored, 2U);
        EXPECT_EQ(status.store->most, std::optional<std::uint64_t>(2));
        EXPECT_EQ(status.store->without_place, 1U);
      },
      SIGKILL);
  ::unsetenv("FDSTORE");
  serve(
      manager,
      [&](Client& client) {
        EXPECT_EQ(*Mapping(client.open("root/1", Access::read_only)).at<int>(0), 2);
        EXPECT_NO_THROW(client.open("root/again", Access::read_only));
        EXPECT_EQ(client.show("root/2").region.state, RegionState::lost);
      },
      SIGKILL);
}

TEST_F(FdStoreTest, AShutdownThatEndsRegionsEmptiesTheStore) {
  ServiceManager manager(place_.directory() + "/notify");
  const pid_t service = manager.start_service({MAPCAPD_PATH, "--policy", place_.directory() + "/policy.toml",
                                               "--state", place_.state(), "--socket", place_.socket()});
  ASSERT_TRUE(comes_true([&] { return manager.ready(); })) << "no READY=1 came";
  constexpr std::size_t kRegions = 40;
  Client client = place_.connect();
  for (std::size_t i = 0; i < kRegions; ++i) {
    RegionSpec wanted;
    wanted.name = "root/" + std::to_string(i);
    wanted.size = 4096;
    wanted.lifetime = Lifetime::persistent();
    client.create(wanted);
  }
  ASSERT_TRUE(comes_true([&] { return manager.stored() == kRegions; }));
  EXPECT_EQ(client.shutdown({.end_regions = true, .only_tell = false}).regions, kRegions);
  int status = -1;
  ::waitpid(service, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(comes_true([&] { return manager.stored() == 0; })) << manager.stored() << " are left";
  EXPECT_EQ(place_.keeper_pid(), 0);
}

TEST_F(FdStoreTest, WhatNeitherKeeperNorStoreHoldsIsReportedLostAndItsChargeEnds) {
  BrokerProcess broker;
  broker.start();
  RegionSpec wanted;
  wanted.name = "root/unstored";
  wanted.size = 65536;
  wanted.lifetime = Lifetime::persistent();
  broker.connect().create(wanted);
  broker.kill_both();
  broker.start();
  Client client = broker.connect();
  ASSERT_EQ(client.list().size(), 1U);
  EXPECT_EQ(client.list().front().state, RegionState::lost);
  EXPECT_EQ(client.pools().front().used, 0U);
}

}  // namespace
}  // namespace mapcap::test
