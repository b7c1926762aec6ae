// Endpoints of a real broker, and clients that come by them.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/broker_process.h"

namespace mapcap::test {

class EndpointTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  }

  static EndpointSpec spec(const std::string& id, std::vector<std::string> names = {"**"}) {
    EndpointSpec wanted;
    wanted.id = id;
    wanted.names = std::move(names);
    return wanted;
  }
  static RegionSpec region(const std::string& name, std::uint64_t size = 4096) {
    RegionSpec wanted;
    wanted.name = name;
    wanted.size = size;
    wanted.seal = SealKind::revocable;
    wanted.lifetime = Lifetime::persistent();
    return wanted;
  }

  static std::string directory_of(const BrokerProcess& broker, const std::string& place) {
    return broker.directory() + "/endpoints/" + place;
  }
  /// A user's: where it is below the directory of all.
  static std::string place_of(uid_t maker, const std::string& id) {
    return "@" + std::to_string(maker) + "/" + id;
  }
  /// By its path, which root finds.
  static Client through(const BrokerProcess& broker, const std::string& place) {
    return at(directory_of(broker, place) + "/mapcap.sock");
  }
  static Client at(const std::string& socket) {
    ConnectOptions options;
    options.socket = socket;
    options.reconnect_within = std::chrono::milliseconds(0);
    return Client::connect(options);
  }
  static std::string by_descriptor(const Fd& directory) {
    return "/proc/self/fd/" + std::to_string(directory.get()) + "/mapcap.sock";
  }

  /// What `action` is refused with; `invalid` and a failure when it is not.
  template <typename Action>
  static ErrorCode refused(Action action, const std::string& what) {
    try {
      action();
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "not refused: " << what;
    return ErrorCode::invalid;
  }

  /// Until it holds, at most 20 s.
  template <typename Condition>
  static bool until(Condition condition) {
    for (int i = 0; i < 4000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return condition();
  }
};

}  // namespace mapcap::test
