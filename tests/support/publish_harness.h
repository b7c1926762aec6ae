// A region to be published, and who is in the way.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {

using namespace std::chrono_literals;

inline constexpr std::uint64_t kSize = 64U << 10U;
inline constexpr const char* kName = "root/model";
inline constexpr std::byte kOld{0x5A};

/// What became of a publish: "published", or the refusal's code and who is in the way.
inline std::string outcome(const std::function<void()>& publish) {
  try {
    publish();
    return "published";
  } catch (const Error& error) {
    std::string text(name_of(error.code()));
    for (const auto& [key, value] : error.details()) {
      if (key == "by") text += " by " + value;
    }
    return text;
  }
}

inline char* map(const Grant& grant, int protection = PROT_READ | PROT_WRITE) {
  void* at = ::mmap(nullptr, grant.size(), protection, MAP_SHARED, grant.fd(), 0);
  return at == MAP_FAILED ? nullptr : static_cast<char*>(at);
}

inline bool all_are(std::span<const std::byte> bytes, std::byte wanted) {
  return std::all_of(bytes.begin(), bytes.end(), [&](std::byte one) { return one == wanted; });
}

/// By the region's seal kind.
class PublishTest : public testing::TestWithParam<SealKind> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker_.start();
    client_.emplace(broker_.connect());
    RegionSpec wanted;
    wanted.name = kName;
    wanted.size = kSize;
    wanted.seal = GetParam();
    wanted.mode = 0666;
    wanted.lifetime = Lifetime::persistent();
    Mapping mapping(client_->create(wanted, Access::read_write));
    std::fill(mapping.writable().begin(), mapping.writable().end(), kOld);
  }

  Client& client() { return *client_; }
  Grant writer() { return client().open(kName, Access::read_write); }
  Grant reader() { return client().open(kName, Access::read_only); }
  std::string publish(std::chrono::nanoseconds within = 0ns) {
    return outcome([&] { client().publish(kName, within); });
  }
  /// On a connection of its own.
  std::future<std::string> publish_meanwhile(std::chrono::nanoseconds within) {
    return std::async(std::launch::async,
                      [this, within] { return outcome([&] { broker_.connect().publish(kName, within); }); });
  }
  /// Until a publish is under way: then nobody gets a writable grant.
  void await_publish() {
    EXPECT_TRUE(comes_true([&] { return outcome([&] { (void)writer(); }) == "busy"; }))
        << "nothing is being published";
  }
  void expect_published() {
    EXPECT_TRUE(client().show(kName).region.published_unix);
    try {
      (void)writer();
      ADD_FAILURE() << "a writable grant of a published region";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::denied) << error.what();
    }
    const Mapping mapping(reader());
    EXPECT_TRUE(all_are(mapping.bytes(), kOld));
    const std::optional<Description> told = describe(reader().fd());
    ASSERT_TRUE(told);
    EXPECT_EQ(told->published_unix, client().show(kName).region.published_unix);
  }

  BrokerProcess broker_;
  std::optional<Client> client_;
};

}  // namespace mapcap::test
