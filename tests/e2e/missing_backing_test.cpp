// Promise 8 where the filesystem of a pool, or of the ledger, is away for a while.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/backends.h"
#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

constexpr const char* kName = "root/kept";

/// Flips a bit of each place in the file that has the text. How many there were.
std::size_t damage(const std::string& path, const std::string& text) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::size_t places = 0;
  for (std::size_t at = bytes.find(text); at != std::string::npos; at = bytes.find(text, at + 1)) {
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(bytes[at] ^ 1));
    ++places;
  }
  return places;
}

class MissingBackingTest : public testing::Test {
 protected:
  MissingBackingTest() : scratch_(Backend::file_on_disk), broker_(scratch_.policy("64M")) {}
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker_.start();
    RegionSpec wanted;
    wanted.name = kName;
    wanted.size = 1U << 20U;
    wanted.lifetime = Lifetime::persistent();
    Mapping mapping(broker_.connect().create(wanted, Access::read_write));
    std::memcpy(mapping.writable().data(), "mine", 4);
  }

  /// As when the filesystem of `directory` is not mounted: an empty one stands in its place.
  void restart_without(const std::string& directory) {
    end_both();
    std::filesystem::rename(directory, scratch_.away());
    std::filesystem::create_directory(directory);
    std::filesystem::permissions(directory, std::filesystem::perms::owner_all);
    broker_.start();
  }
  void restart_with(const std::string& directory) {
    end_both();
    std::filesystem::remove_all(directory);
    std::filesystem::rename(scratch_.away(), directory);
    broker_.start();
  }
  void end_both() { broker_.kill_both(); }
  void restart_under(const std::string& policy) {
    end_both();
    broker_.set_policy(policy);
    broker_.start();
  }

  RegionState state() { return broker_.connect().show(kName).region.state; }
  void expect_bytes_of_its_own() {
    const Mapping mapping(broker_.connect().open(kName, Access::read_only));
    EXPECT_EQ(std::memcmp(mapping.bytes().data(), "mine", 4), 0);
  }

  BackendScratch scratch_;
  BrokerProcess broker_;
};

TEST_F(MissingBackingTest, ARegionWhoseFilesystemReturnsIsLiveAgainWithItsBytes) {
  restart_without(scratch_.directory());
  Client client = broker_.connect();
  EXPECT_EQ(state(), RegionState::lost);
  EXPECT_EQ(client.pools().front().used, 0U);
  for (int start = 0; start < 2; ++start) {  // It must outlive a second start without, too.
    broker_.kill_broker();
    broker_.start();
    EXPECT_EQ(state(), RegionState::lost);
  }
  restart_with(scratch_.directory());
  EXPECT_EQ(state(), RegionState::live);
  EXPECT_EQ(client.pools().front().used, 1U << 20U);
  expect_bytes_of_its_own();
  EXPECT_THAT(broker_.log(), testing::HasSubstr("was lost and is back"));

  broker_.kill_broker();
  broker_.start();
  EXPECT_EQ(state(), RegionState::live) << "its return was not recorded";
}

/// Of grants of before nobody knows how many there are: a sentence that counts them would say none.
TEST_F(MissingBackingTest, ARevokeTellsThatSomebodyHoldsItWhereNobodyKnowsHowMany) {
  std::optional<Mapping> held(broker_.connect().open(kName, Access::read_only));
  ASSERT_EQ(held->bytes()[0], std::byte{'m'});
  end_both();
  broker_.start();
  const CommandResult revoked = mapcap(broker_, {"revoke", kName});
  EXPECT_EQ(revoked.status, 0) << revoked.err;
  EXPECT_THAT(revoked.out,
              testing::HasSubstr("1M stay charged until whoever still has it open or mapped lets go"));
  held.reset();
  Client client = broker_.connect();
  EXPECT_TRUE(comes_true([&] { return client.pools().front().used == 0; }));
}

TEST_F(MissingBackingTest, ItsNameIsNotGivenAwayMeanwhileAndARevokeGivesItUp) {
  restart_without(scratch_.directory());
  Client client = broker_.connect();
  RegionSpec wanted;
  wanted.name = kName;
  wanted.size = 4096;
  try {
    client.create(wanted);
    ADD_FAILURE() << "created over a region that may return";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::exists);
    EXPECT_THAT(error.what(), testing::HasSubstr("bring that back"));
  }
  client.revoke(kName);
  EXPECT_TRUE(client.list().empty());
  restart_with(scratch_.directory());
  EXPECT_TRUE(client.list().empty());
  EXPECT_EQ(scratch_.files(), 0U) << "what was given up still takes up room";
}

TEST_F(MissingBackingTest, AnotherLedgerNeitherTakesNorRemovesWhatThisOneRecords) {
  restart_without(broker_.state());
  EXPECT_THAT(broker_.log(), testing::HasSubstr("files of regions that another ledger knows"));
  RegionSpec wanted;
  wanted.name = kName;  // And with the same id.
  wanted.size = 1U << 20U;
  wanted.lifetime = Lifetime::persistent();
  {
    Mapping mapping(broker_.connect().create(wanted, Access::read_write));
    std::memcpy(mapping.writable().data(), "else", 4);
  }
  restart_with(broker_.state());
  EXPECT_EQ(state(), RegionState::live);
  expect_bytes_of_its_own();
}

TEST_F(MissingBackingTest, AnotherPoolInItsPlaceRemovesNothing) {
  const BackendScratch elsewhere(Backend::file_on_disk);
  const std::string second = "\n[pool.second]\nbacking = \"dax-file\"\ncapacity = \"64M\"\npath = \"";
  std::string swapped = scratch_.policy("64M");
  swapped.replace(swapped.find(scratch_.directory()), scratch_.directory().size(), elsewhere.directory());
  restart_under(swapped + second + scratch_.directory() + "\"\n");
  EXPECT_EQ(state(), RegionState::lost);
  restart_under(scratch_.policy("64M") + second + elsewhere.directory() + "\"\n");
  EXPECT_EQ(state(), RegionState::live);
  expect_bytes_of_its_own();
}

TEST_F(MissingBackingTest, APoolThatThePolicyLosesMeanwhileKeepsItsLostRegions) {
  restart_without(scratch_.directory());
  restart_under(open_policy());
  EXPECT_EQ(state(), RegionState::lost);
  broker_.set_policy(scratch_.policy("64M"));
  restart_with(scratch_.directory());
  EXPECT_EQ(state(), RegionState::live);
  expect_bytes_of_its_own();
}

TEST_F(MissingBackingTest, ADamagedRecordCostsItsFileTheNameAndNotTheBytes) {
  end_both();
  ASSERT_GT(damage(broker_.state() + "/ledger", kName), 0U);
  for (int start = 0; start < 2; ++start) {
    broker_.start();
    EXPECT_TRUE(broker_.connect().list().empty());
    EXPECT_THAT(broker_.log(), testing::HasSubstr("region-disowned-"));
    ASSERT_EQ(scratch_.files(), 1U);
    broker_.kill_broker();
  }
  const auto file = std::filesystem::directory_iterator(scratch_.directory())->path();
  std::string bytes(4, '\0');
  std::ifstream(file).read(bytes.data(), 4);
  EXPECT_EQ(bytes, "mine");
}

TEST_F(MissingBackingTest, ADamagedRecordIsNotForgottenByAStartWithoutTheFilesystem) {
  end_both();
  ASSERT_GT(damage(broker_.state() + "/ledger", kName), 0U);
  restart_without(scratch_.directory());
  restart_with(scratch_.directory());
  EXPECT_THAT(broker_.log(), testing::HasSubstr("1 damaged records (mapcapd --check-ledger lists them"));
  EXPECT_EQ(scratch_.files(), 1U) << "its file is gone";

  end_both();
  const CommandResult forgotten = run_command({MAPCAPD_PATH, "--forget-damaged", "--state", broker_.state()});
  EXPECT_EQ(forgotten.status, 0) << forgotten.err;
  EXPECT_THAT(forgotten.out, testing::HasSubstr("1 damaged records freed"));
  broker_.start();
  EXPECT_THAT(broker_.log(), testing::HasSubstr("0 damaged records"));
}

TEST_F(MissingBackingTest, ItsTimeRunsOutMeanwhile) {
  RegionSpec wanted;
  wanted.name = "root/short";
  wanted.size = 4096;
  wanted.lifetime = Lifetime::for_time(std::chrono::seconds(1));
  broker_.connect().create(wanted);
  restart_without(scratch_.directory());
  Client client = broker_.connect();
  EXPECT_TRUE(comes_true([&] { return client.list().size() == 1; }));
  EXPECT_THAT(client.list(), testing::ElementsAre(testing::Field(&RegionInfo::name, kName)));
}

}  // namespace
}  // namespace mapcap::test
