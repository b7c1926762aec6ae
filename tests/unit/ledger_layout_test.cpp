// The ledger's bytes, to the bit: a ledger that a broker of before wrote is read by the next. What changes here is the
// format (FORMAT.md), which only grows.
#include <gmock/gmock.h>

#include "base/sha256.h"
#include "broker/ledger/table/record_layout.h"

namespace mapcap::broker::ledger {
namespace {

/// No field has its default.
RegionRecord full_region() {
  RegionRecord record;
  record.id = {0x0102030405060708};
  record.name = "alice/buffer-1";
  record.pool = "pmem0";
  record.owner = 1000;
  record.group = 100;
  record.mode = 0640;
  record.size = {3U << 20U};
  record.cache = {CacheMode::write_combining, true};
  record.cache_effective = CacheMode::uncached;
  record.seal = SealKind::revocable;
  record.lifetime = LifetimeKind::ttl;
  record.ttl_ns = 5'000'000'001;
  record.state = RegionState::draining;
  record.volatile_memory = true;
  for (std::size_t i = 0; i < record.boot.size(); ++i) record.boot[i] = static_cast<std::uint8_t>(0xb0 + i);
  record.created_unix_ns = 1'700'000'000'000'000'001;
  record.expires_boot_ns = 6'000'000'007;
  record.expires_unix_ns = 1'700'000'005'000'000'009;
  record.extent = 0xfedcba9876543210;
  return record;
}

std::string digest(const SlotImage& image) {
  return sha256(
      std::string_view(reinterpret_cast<const char*>(image.data()), image.size()));  // SAFETY: bytes as chars
}

TEST(LedgerLayout, ARegionsBytesAreWhatTheyWere) {
  SlotImage image{};
  ASSERT_TRUE(encode(full_region(), image));
  EXPECT_EQ(digest(image), "9b36bac122bc4f26cfdc78155599a9e7832c46e41203c05459f5fcb1f89f7e76");
}

TEST(LedgerLayout, APublishedRegionsBytesAreWhatTheyWere) {
  RegionRecord record = full_region();
  record.lifetime = LifetimeKind::persistent;
  record.ttl_ns = 0;
  record.expires_boot_ns = 0;
  record.expires_unix_ns = 0;
  record.published_unix_ns = 1'700'000'006'000'000'003;
  SlotImage image{};
  ASSERT_TRUE(encode(record, image));
  EXPECT_EQ(digest(image), "fd35f2e6153a170ae17aa5e56042705bf91c16b147ddc58faa4f3c5db4316f9a");
}

TEST(LedgerLayout, AConnectionsRegionsBytesAreWhatTheyWere) {
  RegionRecord record = full_region();
  record.lifetime = LifetimeKind::connection;
  record.ttl_ns = 0;
  record.expires_boot_ns = 0;
  record.expires_unix_ns = 0;
  record.session.fill(9);
  SlotImage image{};
  ASSERT_TRUE(encode(record, image));
  EXPECT_EQ(digest(image), "750da468c4a347cb48fadc2c1821a6b85d540dd652dfbb4d9c0e18fda4e64eec");
}

TEST(LedgerLayout, AQuotasBytesAreWhatTheyWere) {
  const QuotaRecord record{SubjectKind::group, 4242, "dram", {1, std::nullopt, 3, 4}};
  SlotImage image{};
  ASSERT_TRUE(encode(record, image));
  EXPECT_EQ(digest(image), "0fa17a9775405966945c91576c033bbbf180c5abed886d6e5f62a65127824746");
}

TEST(LedgerLayout, AnEndpointsBytesAreWhatTheyWere) {
  EndpointRecord record;
  record.number = 77;
  record.id = "reader-1";
  record.state = EndpointState::ending;
  record.principal = 0xC0000001;
  record.maker = 1000;
  record.maker_group = 100;
  record.maker_administrator = true;
  record.on_end = OnEnd::keep;
  record.rights = Access::read_only;
  record.limits = {5, 6, std::nullopt, 8};
  record.ttl_ns = 3'600'000'000'000;
  record.boot.fill(7);
  record.created_unix_ns = 1'700'000'000'000'000'001;
  record.expires_boot_ns = 11;
  record.expires_unix_ns = 12;
  SlotImage image{};
  ASSERT_TRUE(encode(record, 40, image));
  EXPECT_EQ(digest(image), "2acf8b786b27b2a5e5d15d8057a64274517ff284b2c6feff021fa60d3db9e07f");
  SlotImage text{};
  encode_text(77, 1, std::string(300, 'x'), text);
  EXPECT_EQ(digest(text), "b262db9c8abb51c763af44d46cd38337326fce480df2c324bca189676a5c2b07");
}

}  // namespace
}  // namespace mapcap::broker::ledger
