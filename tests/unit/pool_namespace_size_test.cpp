// Promise 12: what a create costs to compute does not grow with the number in it.
#include "broker/pool/namespace_size.h"

#include <gtest/gtest.h>

namespace mapcap::broker::pool {
namespace {

constexpr std::uint64_t kGranule = 16U << 20U;

/// The definition: one granule more until it is enough.
std::uint64_t counted_up(std::uint64_t asked, std::uint64_t granule) {
  std::uint64_t raw = round_up(asked + kInfoBlock, granule);
  while (usable_size(raw) < asked) raw += granule;
  return raw;
}

TEST(NamespaceSize, IsTheSmallestWhoseDeviceIsLargeEnough) {
  for (const std::uint64_t granule : {kGranule, kGranule * 4, kNamespaceAlignment}) {
    for (std::uint64_t asked = 1; asked < 1ULL << 44U; asked = asked * 3 + 4095)
      EXPECT_EQ(namespace_size(asked, granule), counted_up(asked, granule)) << asked << " in " << granule;
    // On both sides of what fits exactly.
    for (std::uint64_t count = 1; count < 3000; ++count) {
      const std::uint64_t fits = usable_size(count * granule);
      for (const std::uint64_t asked : {fits - 1, fits, fits + 1}) {
        if (asked == 0 || asked > ~0ULL / 2) continue;
        ASSERT_EQ(namespace_size(asked, granule), counted_up(asked, granule)) << asked << " in " << granule;
      }
    }
  }
}

// What a compiler may do to evaluate a constant is bounded: a loop that counts up does not compile.
constexpr std::uint64_t kLargest = (1ULL << 63U) - kGranule - 1;
constexpr std::uint64_t kItsNamespace = namespace_size(kLargest, kGranule);
static_assert(usable_size(kItsNamespace) >= kLargest && usable_size(kItsNamespace - kGranule) < kLargest);
static_assert(namespace_size(1ULL << 62U, kGranule) % kGranule == 0);

}  // namespace
}  // namespace mapcap::broker::pool
