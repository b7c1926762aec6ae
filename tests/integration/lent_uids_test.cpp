// /etc/subuid counts from the moment it changes, however it is written.
#include "broker/lent_uids.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "tests/support/loop_harness.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using broker::AccountChanges;
using broker::LentUids;
using policy::Subordinates;

class LentUidsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/mapcap-lent.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ + "/" + name) << text;
  }
  [[nodiscard]] Subordinates read() const {
    std::ifstream file(directory_ + "/subuid");
    std::string line;
    std::getline(file, line);
    return Subordinates::parse(line, policy::Accounts{});
  }
  /// Whom uid 100000 is charged to when nothing has changed any more for a while.
  std::uint32_t account_after(const std::function<void()>& change) {
    Result<AccountChanges> changes = AccountChanges::watch(directory_);
    EXPECT_TRUE(changes) << changes.error().sentence;
    std::optional<LentUids> lent;
    lent.emplace(LentUids::Parts{harness_.loop, harness_.worker,
                                 [this](const Subordinates& now) { lent_ = now, ++reads_; },
                                 [this] { return read(); }},
                 std::move(changes.value()));
    lent->start();
    change();
    auto end = harness_.loop.after(500ms, [this] { harness_.loop.stop(); });
    harness_.loop.run();
    lent.reset();
    harness_.loop.run_ready();  // What waits for the next change ends.
    return lent_.account_of(100'000);
  }

  std::string directory_;
  Subordinates lent_;
  int reads_ = 0;
  LoopHarness harness_;
};

TEST_F(LentUidsTest, ARangeCountsWhenTheFileIsWrittenMadeOrReplaced) {
  EXPECT_EQ(account_after([&] { write("subuid", "1001:100000:65536\n"); }), 1001U);
  EXPECT_EQ(account_after([&] { write("subuid", "1002:100000:65536\n"); }), 1002U);
  EXPECT_EQ(account_after([&] {
              write("subuid+", "1003:100000:65536\n");
              std::filesystem::rename(directory_ + "/subuid+", directory_ + "/subuid");
            }),
            1003U);
  EXPECT_EQ(account_after([&] { std::filesystem::remove(directory_ + "/subuid"); }), 100'000U);
}

TEST_F(LentUidsTest, ALinksTargetIsWatchedToo) {
  const std::string elsewhere = directory_ + "/elsewhere";
  std::filesystem::create_directory(elsewhere);
  std::ofstream(elsewhere + "/table") << "1001:100000:65536\n";
  std::filesystem::create_symlink(elsewhere + "/table", directory_ + "/subuid");
  EXPECT_EQ(account_after([&] { std::ofstream(elsewhere + "/table") << "1004:100000:65536\n"; }), 1004U);
}

TEST_F(LentUidsTest, OtherFilesAndBurstsCostLittle) {
  account_after([&] { write("shadow", "x"); });
  EXPECT_EQ(reads_, 0);
  account_after([&] {
    for (int i = 0; i < 500; ++i) write("passwd", std::to_string(i));
  });
  EXPECT_GE(reads_, 1);
  EXPECT_LE(reads_, 10);
}

}  // namespace
}  // namespace mapcap::test
