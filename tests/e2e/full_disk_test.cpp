// Promises 7 and 8 on filesystems that are full: what cannot be recorded or carved is refused with a
// sentence, what was acknowledged stays, and the broker goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"
#include "tests/support/tiny_filesystem.h"

namespace mapcap::test {
namespace {

using testing::HasSubstr;

class FullDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd and mounts a tmpfs";
  }
};

std::string name_of(std::size_t number) {
  return "root/region-" + std::to_string(number);
}

/// Creates `name`; the refusal, or nothing.
std::optional<Error> refused(Client& client, const std::string& name, const std::string& pool,
                             std::uint64_t size) {
  RegionSpec wanted;
  wanted.name = name;
  wanted.size = size;
  wanted.pool = pool;
  wanted.lifetime = Lifetime::persistent();
  try {
    client.create(wanted);
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

std::set<std::string> listed(Client& client) {
  std::set<std::string> names;
  for (const RegionInfo& region : client.list()) names.insert(region.name);
  return names;
}

std::uint64_t used_of(Client& client, const std::string& pool) {
  for (const PoolInfo& info : client.pools()) {
    if (info.name == pool) return info.used;
  }
  return ~std::uint64_t{0};
}

TEST_F(FullDiskTest, ALedgerThatCannotGrowRefusesCreatesAndGoesOn) {
  // Holds the first ledger (1 MiB for 4096 records), socket, policy and log, but no ledger of twice the size.
  const TinyFilesystem tiny("2M");
  if (!tiny.mounted()) GTEST_SKIP() << "no tmpfs can be mounted here";
  BrokerProcess broker(open_policy("[[quota]]\nuser = 0\nregions = 100000\n"), tiny.path());
  broker.start();
  Client client = broker.connect();
  std::set<std::string> acknowledged;
  std::optional<Error> refusal;
  for (std::size_t i = 0; i < 5000 && !refusal; ++i) {
    refusal = refused(client, name_of(i), "dram", 4096);
    if (!refusal) acknowledged.insert(name_of(i));
  }
  ASSERT_TRUE(refusal) << "the ledger was never full";
  EXPECT_EQ(refusal->code(), ErrorCode::io);
  EXPECT_THAT(refusal->what(), testing::AllOf(HasSubstr("ledger"), HasSubstr("is full (4096 slots)"),
                                              HasSubstr("free space on its file system"),
                                              HasSubstr("No space left on device")));
  EXPECT_GT(acknowledged.size(), 4000U);
  EXPECT_EQ(listed(client), acknowledged);
  EXPECT_EQ(used_of(client, "dram"), acknowledged.size() * 4096) << "a refused create is not charged";
  for (std::size_t i = 0; i < 20; ++i) EXPECT_TRUE(refused(client, name_of(5000 + i), "dram", 4096));
  const auto times = [&broker](const std::string& words) {
    const std::string log = broker.log();
    std::size_t count = 0;
    for (std::size_t at = log.find(words); at != std::string::npos; at = log.find(words, at + 1)) ++count;
    return count;
  };
  EXPECT_EQ(times("changes are refused until this is mended"), 1U) << broker.log();
  EXPECT_THAT(broker.log(), HasSubstr("free space on its file system"));
  EXPECT_THAT(client.status().ledger_trouble, HasSubstr("No space left on device")) << "as long as it is so";
  EXPECT_THAT(mapcap(broker, {"status"}).out, HasSubstr("refuses changes: "));

  for (std::size_t i = 0; i < 100; ++i) {
    client.revoke(name_of(i));
    acknowledged.erase(name_of(i));
  }
  for (std::size_t i = 6000; i < 6050; ++i) {
    const auto again = refused(client, name_of(i), "dram", 4096);
    EXPECT_FALSE(again) << again->what();
    acknowledged.insert(name_of(i));
  }
  EXPECT_EQ(times("takes changes again"), 1U) << broker.log();
  EXPECT_EQ(client.status().ledger_trouble, "");
  EXPECT_THAT(mapcap(broker, {"status"}).out, HasSubstr("takes changes"));
  broker.kill_broker();
  broker.start();
  EXPECT_EQ(listed(client), acknowledged);
  EXPECT_EQ(used_of(client, "dram"), acknowledged.size() * 4096);
  EXPECT_FALSE(refused(client, "root/after-restart", "dram", 4096));
}

TEST_F(FullDiskTest, APoolOfFilesOnAFullFilesystemRefusesCreatesAndGoesOn) {
  const TinyFilesystem tiny("8M");
  if (!tiny.mounted()) GTEST_SKIP() << "no tmpfs can be mounted here";
  const std::string directory = tiny.path() + "/pool";
  ASSERT_EQ(::mkdir(directory.c_str(), 0700), 0);
  constexpr std::uint64_t kSize = 1U << 20U;
  const auto fill_with = [](Mapping& mapping, std::uint64_t value) {
    for (std::uint64_t at = 0; at < kSize; at += 4096) *mapping.writable_at<std::uint64_t>(at) = value;
  };
  const auto holds = [](const Mapping& mapping, std::uint64_t value) {
    for (std::uint64_t at = 0; at < kSize; at += 4096) {
      if (*mapping.at<std::uint64_t>(at) != value) return false;
    }
    return true;
  };
  BrokerProcess broker(open_policy("[pool.files]\nbacking = \"dax-file\"\npath = \"" + directory + "\"\n"));
  broker.start();
  Client client = broker.connect();
  // The pool's capacity is the whole filesystem, and half of that is somebody else's by now.
  std::ofstream(tiny.path() + "/somebody-elses") << std::string(4U << 20U, 'x');
  std::set<std::string> acknowledged;
  std::optional<Error> refusal;
  for (std::size_t i = 0; i < 8 && !refusal; ++i) {
    refusal = refused(client, name_of(i), "files", kSize);
    if (refusal) break;
    acknowledged.insert(name_of(i));
    Mapping mapping(client.open(name_of(i), Access::read_write));
    fill_with(mapping, i + 1);
  }
  ASSERT_TRUE(refusal) << "the filesystem was never full";
  EXPECT_EQ(refusal->code(), ErrorCode::pool_full);
  EXPECT_THAT(refusal->what(),
              testing::AllOf(HasSubstr("files"), HasSubstr(directory), HasSubstr("no room")));
  ASSERT_GE(acknowledged.size(), 3U);
  EXPECT_EQ(listed(client), acknowledged);
  EXPECT_EQ(used_of(client, "files"), acknowledged.size() * kSize) << "a refused create is not charged";

  client.revoke(name_of(0));
  acknowledged.erase(name_of(0));
  // Its blocks are given back in the background.
  std::optional<Error> again = refusal;
  ASSERT_TRUE(comes_true([&] {
    again = refused(client, "root/next", "files", kSize);
    return !again;
  })) << again->what();
  acknowledged.insert("root/next");
  broker.kill_broker();
  broker.start();
  // The revoked one's file was gone, its record perhaps not yet.
  EXPECT_TRUE(comes_true([&] { return listed(client) == acknowledged; }));
  EXPECT_EQ(used_of(client, "files"), acknowledged.size() * kSize);
  EXPECT_TRUE(holds(Mapping(client.open(name_of(1), Access::read_only)), 2));
  EXPECT_TRUE(holds(Mapping(client.open("root/next", Access::read_only)), 0));
}

}  // namespace
}  // namespace mapcap::test
