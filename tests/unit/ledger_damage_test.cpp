// A ledger with a flipped bit, cut short, of another version or full of noise: it opens to what is provably
// intact or refuses with a sentence. It never crashes and never brings back what was erased.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "broker/ledger/recovery.h"
#include "broker/ledger/table/record_layout.h"
#include "tests/support/loop_harness.h"
#include "tests/support/memory_medium.h"

namespace mapcap::broker::ledger {
namespace {

using test::MemoryMedium;

constexpr std::size_t kCapacity = 16;
#ifdef MAPCAP_SANITIZED
constexpr std::size_t kStride =
    11;  // Of the bits, and of the lengths in words: a prime, so that all positions get a turn.
#else
constexpr std::size_t kStride = 1;
#endif

RegionRecord region(RegionId id) {
  RegionRecord record;
  record.id = id;
  record.name = "region-" + std::to_string(id.value);
  record.pool = "pool";
  record.size = {4096};
  return record;
}

struct Sample {
  std::vector<std::byte> bytes;
  std::vector<RegionRecord> regions;
  QuotaRecord quota{SubjectKind::user, 7, "pool", {1, 2, 3, 4}};
};

/// Regions, a quota, superseded versions and an erased region, as a running broker leaves them.
Sample sample() {
  Sample made;
  test::LoopHarness harness;
  auto medium = std::make_shared<MemoryMedium>(test::empty_ledger(kCapacity));
  auto opened = open_on(medium, harness.loop, harness.worker);
  EXPECT_TRUE(opened);
  Ledger& ledger = *opened.value();
  const RegionRecord erased = region(ledger.next_id());
  EXPECT_TRUE(harness.run(ledger.put(erased, Strength::power)));
  for (int i = 0; i < 4; ++i) {
    made.regions.push_back(region(ledger.next_id()));
    EXPECT_TRUE(
        harness.run(ledger.put(made.regions.back(), i % 2 == 0 ? Strength::power : Strength::process)));
    made.regions.back().mode = 0600;
    EXPECT_TRUE(harness.run(ledger.put(made.regions.back(), Strength::process)));
  }
  EXPECT_TRUE(harness.run(ledger.erase(erased.id, Strength::power)));
  EXPECT_TRUE(harness.run(ledger.put_quota(made.quota)));
  made.bytes = medium->contents();
  return made;
}

/// What is found is among what was there. The number of regions found, or none when the ledger is refused.
std::optional<std::size_t> open_damaged(const Sample& intact, std::vector<std::byte> bytes) {
  MemoryMedium medium(std::move(bytes));
  auto opened = recover(medium);
  if (!opened) {
    EXPECT_EQ(opened.error().code, ErrorCode::invalid);
    EXPECT_NE(opened.error().sentence, "");
    return std::nullopt;
  }
  for (const RegionRecord& found : opened.value().recovered.regions) {
    EXPECT_THAT(intact.regions, testing::Contains(found));
  }
  for (const QuotaRecord& found : opened.value().recovered.quotas) EXPECT_EQ(found, intact.quota);
  EXPECT_GT(opened.value().next_id, intact.regions.back().id.value);
  return opened.value().recovered.regions.size() + opened.value().recovered.quotas.size();
}

TEST(LedgerDamage, AnyFlippedBitCostsAtMostTheRecordThatItIsIn) {
  const Sample intact = sample();
  ASSERT_EQ(open_damaged(intact, intact.bytes), 5U);
  for (std::size_t bit = 0; bit < intact.bytes.size() * 8; bit += kStride) {
    std::vector<std::byte> bytes = intact.bytes;
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    const std::optional<std::size_t> found = open_damaged(intact, std::move(bytes));
    ASSERT_TRUE(found) << "refused for bit " << bit << " although the other superblock is whole";
    ASSERT_GE(*found, bit / 8 < kSlotsOffset ? 5U : 4U) << bit;
    if (testing::Test::HasFailure()) FAIL() << "bit " << bit;
  }
}

TEST(LedgerDamage, ALedgerCutShortIsRefusedAtEveryLength) {
  const Sample intact = sample();
  for (std::size_t length = 0; length < intact.bytes.size(); length += 8 * kStride) {
    std::vector<std::byte> bytes(intact.bytes.begin(),
                                 intact.bytes.begin() + static_cast<std::ptrdiff_t>(length));
    ASSERT_FALSE(open_damaged(intact, std::move(bytes))) << length;
  }
}

TEST(LedgerDamage, WhatFollowsTheCapacityIsNotTheLedgers) {
  const Sample intact = sample();
  std::vector<std::byte> bytes = intact.bytes;
  // Records that would be valid further up, as a copy of the file behind itself holds them.
  bytes.insert(bytes.end(), intact.bytes.begin() + kSlotsOffset, intact.bytes.end());
  EXPECT_EQ(open_damaged(intact, std::move(bytes)), 5U);
}

TEST(LedgerDamage, ARecordIsValidOnlyInItsOwnPlaceAndLedger) {
  const Sample intact = sample();
  MemoryMedium medium(intact.bytes);
  const auto reading = read(medium);
  ASSERT_TRUE(reading);
  const std::uint32_t from = *reading.value().scan.live.find(intact.regions.front().id.value);
  const std::uint32_t to = from == 9 ? 8 : 9;
  std::vector<std::byte> moved = intact.bytes;
  std::memcpy(moved.data() + kSlotsOffset + to * kSlotSize, moved.data() + kSlotsOffset + from * kSlotSize,
              kSlotSize);
  save64(moved, kSlotsOffset + from * kSlotSize, 0);
  EXPECT_EQ(open_damaged(intact, std::move(moved)), 4U) << "a misplaced record was believed";

  std::vector<std::byte> foreign = test::empty_ledger(kCapacity, 0xBADCAFE);
  std::copy(intact.bytes.begin() + kSlotsOffset, intact.bytes.end(), foreign.begin() + kSlotsOffset);
  MemoryMedium other(foreign);
  const auto opened = recover(other);
  ASSERT_TRUE(opened);
  EXPECT_TRUE(opened.value().recovered.regions.empty()) << "another ledger's records were believed";
}

TEST(LedgerDamage, AnotherLayoutVersionIsNamedAndRefused) {
  std::vector<std::byte> bytes = test::empty_ledger(kCapacity);
  for (std::size_t copy : {0U, 1U}) {
    const std::span<std::byte> superblock =
        std::span(bytes).subspan(superblock_range(copy).offset, kSuperblockSize);
    save32(superblock, 8, 2);
    save32(superblock, kSuperblockSize - 4, ~crc32c(superblock.first(kSuperblockSize - 4), ~0U));
  }
  MemoryMedium medium(bytes);
  const auto refused = recover(medium);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::invalid);
  EXPECT_THAT(refused.error().sentence, testing::HasSubstr("layout version 2"));
}

TEST(LedgerDamage, NoiseIsNoLedger) {
  std::mt19937_64 random(3);
  const Sample intact = sample();
  for (int round = 0; round < 200; ++round) {
    std::vector<std::byte> bytes = intact.bytes;
    // All of it, or only the slots: those are freed then and the rest goes on.
    const std::size_t from = round % 2 == 0 ? 0 : kSlotsOffset;
    for (std::size_t at = from; at < bytes.size(); at += 8) save64(bytes, at, random());
    const std::optional<std::size_t> found = open_damaged(intact, std::move(bytes));
    EXPECT_EQ(found, from == 0 ? std::optional<std::size_t>() : 0U);
  }
}

TEST(LedgerDamage, TheCheckNamesEveryDamagedRecordAndChangesNothing) {
  const Sample intact = sample();
  MemoryMedium medium(intact.bytes);
  const std::uint32_t slot = *read(medium).value().scan.live.find(intact.regions.front().id.value);
  medium.contents()[kSlotsOffset + slot * kSlotSize + 100] ^= std::byte{4};
  medium.contents()[17] ^= std::byte{1};
  const std::vector<std::byte> before = medium.contents();
  char* text = nullptr;
  std::size_t length = 0;
  std::FILE* out = ::open_memstream(&text, &length);
  const auto whole = check(medium, out);
  std::fclose(out);
  const std::string said(text, length);
  std::free(text);
  ASSERT_TRUE(whole);
  EXPECT_FALSE(whole.value());
  EXPECT_THAT(said, testing::HasSubstr("slot " + std::to_string(slot) + ": damaged"));
  EXPECT_THAT(said, testing::HasSubstr("superblock 0: damaged"));
  EXPECT_THAT(said, testing::HasSubstr("1 damaged\n"));
  EXPECT_EQ(medium.contents(), before);
}

TEST(LedgerDamage, AFieldOutsideItsRangeIsDamageThoughTheChecksumHolds) {
  std::vector<std::byte> bytes = test::empty_ledger(kCapacity);
  SlotImage image{};
  ASSERT_TRUE(encode(region({5}), image));
  image[119] = std::byte{6};  // A state that does not exist.
  seal(image, {SlotKind::region, Strength::power, 5, 1}, {0xC0FFEE, 3});
  std::memcpy(bytes.data() + kSlotsOffset + 3 * kSlotSize, image.data(), image.size());
  MemoryMedium medium(bytes);
  const auto opened = recover(medium);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened.value().recovered.damaged, 1U);
  EXPECT_TRUE(opened.value().recovered.regions.empty());
}

TEST(LedgerDamage, IsCountedAtEachOpeningUntilItIsForgotten) {
  const Sample intact = sample();
  MemoryMedium medium(intact.bytes);
  const std::uint32_t slot = *read(medium).value().scan.live.find(intact.regions.front().id.value);
  medium.contents()[kSlotsOffset + slot * kSlotSize + 100] ^= std::byte{4};
  for (int opening = 0; opening < 2; ++opening) {
    auto opened = recover(medium);
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened.value().recovered.damaged, 1U);
    SlotImage image{};
    ASSERT_TRUE(encode(region({opened.value().next_id}), image));
    const auto put =
        opened.value().table->begin_put(image, SlotKind::region, opened.value().next_id, Strength::power);
    ASSERT_TRUE(put && put.value());
    EXPECT_NE(put.value()->slot, slot) << "a damaged slot was used again";
  }
  const auto freed = forget_damaged(medium);
  ASSERT_TRUE(freed);
  EXPECT_EQ(freed.value(), 1U);
  EXPECT_EQ(recover(medium).value().recovered.damaged, 0U);
  EXPECT_EQ(forget_damaged(medium).value(), 0U);
}

}  // namespace
}  // namespace mapcap::broker::ledger
