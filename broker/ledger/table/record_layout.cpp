#include "broker/ledger/table/record_layout.h"

#include <algorithm>
#include <cstring>

#include "broker/ledger/table/fields.h"
#include "schema/region_name.h"

namespace mapcap::broker::ledger {

namespace {

// Offsets within the slot.
namespace region {
constexpr std::size_t kSize = 24;
constexpr std::size_t kTtl = 32;
constexpr std::size_t kCreated = 40;
constexpr std::size_t kExpiresBoot = 48;
constexpr std::size_t kExpiresUnix = 56;
constexpr std::size_t kExtent = 64;
constexpr std::size_t kBoot = 72;
constexpr std::size_t kSession = 88;
constexpr std::size_t kOwner = 104;
constexpr std::size_t kGroup = 108;
constexpr std::size_t kMode = 112;
constexpr std::size_t kNameLength = 114;
constexpr std::size_t kPoolLength = 115;
constexpr std::size_t kCache = 116;  // Bits 0-6: mode asked for; bit 7: required.
constexpr std::size_t kCacheEffective = 117;
constexpr std::size_t kSealLifetime = 118;  // Bits 0-3: seal kind; bits 4-7: lifetime kind.
constexpr std::size_t kState = 119;
constexpr std::size_t kFlags = 120;  // Bit 0: volatile memory; bit 1: published.
constexpr std::size_t kName = 121;
constexpr std::size_t kPool = 233;
static_assert(kPool - kName == schema::RegionName::kMaxLength && kSlotSize - kPool == kPoolNameLength);
}  // namespace region

namespace quota {
constexpr std::size_t kLimits = 24;  // bytes, regions, grants, connections: 8 bytes each.
constexpr std::size_t kId = 56;
constexpr std::size_t kSubject = 60;
constexpr std::size_t kPresent = 61;  // Bit n: limit n is set.
constexpr std::size_t kPoolLength = 62;
constexpr std::size_t kPool = 64;
}  // namespace quota

constexpr std::uint8_t kRequired = 0x80;
constexpr unsigned kVolatile = 1;
constexpr unsigned kPublished = 2;

/// Every byte of a slot was taken when regions could not yet be published. A lifetime `connection` has no ttl, and the
/// others have no session: the time of publishing lies where there is nothing.
std::size_t published_at(LifetimeKind lifetime) {
  return lifetime == LifetimeKind::connection ? region::kTtl : region::kSession;
}

bool is_pool_name(std::string_view text) {
  return text.size() <= kPoolNameLength &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

Result<Record> decode_region(SlotBytes bytes) {
  const std::size_t name_length = load8(bytes, region::kNameLength);
  const std::size_t pool_length = load8(bytes, region::kPoolLength);
  const unsigned cache = load8(bytes, region::kCache);
  const unsigned effective = load8(bytes, region::kCacheEffective);
  const unsigned seal_lifetime = load8(bytes, region::kSealLifetime);
  const unsigned state = load8(bytes, region::kState);
  const unsigned flags = load8(bytes, region::kFlags);
  if (name_length > schema::RegionName::kMaxLength) return unfit("name is longer than 112 bytes");
  if (pool_length == 0 || pool_length > kPoolNameLength) return unfit("pool name is not 1 to 23 bytes long");
  if (!within(cache & ~unsigned{kRequired}, CacheMode::uncached) || !within(effective, CacheMode::uncached)) {
    return unfit("cache mode is unknown");
  }
  if (!within(seal_lifetime & 0xFU, SealKind::revocable)) return unfit("seal kind is unknown");
  if (!within(seal_lifetime >> 4U, LifetimeKind::persistent)) return unfit("lifetime is unknown");
  if (!within(state, RegionState::lost)) return unfit("state is unknown");
  if ((flags & ~(kVolatile | kPublished)) != 0) return unfit("flags are unknown");
  if ((load16(bytes, region::kMode) & ~0777U) != 0) return unfit("mode is more than permission bits");
  if (!all_zero(bytes, region::kName + name_length, region::kPool) ||
      !all_zero(bytes, region::kPool + pool_length, kSlotSize)) {
    return unfit("padding is not zero");
  }
  RegionRecord record;
  record.name = load_text(bytes, region::kName, name_length);
  record.pool = load_text(bytes, region::kPool, pool_length);
  if (!is_pool_name(record.pool)) return unfit("pool name holds other than printable characters");
  MAPCAP_TRY_VOID(schema::RegionName::parse(record.name));
  record.id = {load64(bytes, 8)};
  record.size = {load64(bytes, region::kSize)};
  record.ttl_ns = load64(bytes, region::kTtl);
  record.created_unix_ns = static_cast<std::int64_t>(load64(bytes, region::kCreated));
  record.expires_boot_ns = static_cast<std::int64_t>(load64(bytes, region::kExpiresBoot));
  record.expires_unix_ns = static_cast<std::int64_t>(load64(bytes, region::kExpiresUnix));
  record.extent = load64(bytes, region::kExtent);
  std::memcpy(record.boot.data(), bytes.data() + region::kBoot, record.boot.size());
  std::memcpy(record.session.data(), bytes.data() + region::kSession, record.session.size());
  record.owner = load32(bytes, region::kOwner);
  record.group = load32(bytes, region::kGroup);
  record.mode = load16(bytes, region::kMode);
  record.cache.mode = static_cast<CacheMode>(cache & ~unsigned{kRequired});
  record.cache.required = (cache & kRequired) != 0;
  record.cache_effective = static_cast<CacheMode>(effective);
  record.seal = static_cast<SealKind>(seal_lifetime & 0xFU);
  record.lifetime = static_cast<LifetimeKind>(seal_lifetime >> 4U);
  record.state = static_cast<RegionState>(state);
  record.volatile_memory = (flags & kVolatile) != 0;
  if ((flags & kPublished) != 0) {
    record.published_unix_ns = static_cast<std::int64_t>(load64(bytes, published_at(record.lifetime)));
    if (record.published_unix_ns == 0) return unfit("time of publishing is missing");
    if (record.lifetime == LifetimeKind::connection) {
      record.ttl_ns = 0;
    } else {
      if (load64(bytes, region::kSession + 8) != 0) return unfit("padding is not zero");
      record.session = {};
    }
  }
  return Record(std::move(record));
}

Result<Record> decode_quota(SlotBytes bytes) {
  const unsigned subject = load8(bytes, quota::kSubject);
  const unsigned present = load8(bytes, quota::kPresent);
  const std::size_t pool_length = load8(bytes, quota::kPoolLength);
  if (!within(subject, SubjectKind::group)) return unfit("subject is unknown");
  if (present > 0xFU) return unfit("limits are unknown");
  if (pool_length > kPoolNameLength) return unfit("pool name is longer than 23 bytes");
  if (!all_zero(bytes, quota::kPoolLength + 1, quota::kPool) ||
      !all_zero(bytes, quota::kPool + pool_length, kSlotSize)) {
    return unfit("padding is not zero");
  }
  QuotaRecord record;
  record.subject = static_cast<SubjectKind>(subject);
  record.id = load32(bytes, quota::kId);
  record.pool = load_text(bytes, quota::kPool, pool_length);
  if (!is_pool_name(record.pool)) return unfit("pool name holds other than printable characters");
  const std::array limits{&record.limits.bytes, &record.limits.regions, &record.limits.grants,
                          &record.limits.connections};
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const std::uint64_t value = load64(bytes, quota::kLimits + 8 * i);
    if ((present >> i & 1U) != 0) {
      *limits[i] = value;
    } else if (value != 0) {
      return unfit("absent limit has a value");
    }
  }
  return Record(std::move(record));
}

}  // namespace

Result<void> encode(const RegionRecord& record, SlotImage& image) {
  MAPCAP_TRY_VOID(schema::RegionName::parse(record.name));
  if (record.pool.empty() || !is_pool_name(record.pool)) {
    return unfit("pool name is not 1 to 23 printable characters");
  }
  if ((record.mode & ~0777U) != 0) return unfit("mode is more than permission bits");
  image.fill(std::byte{0});
  save64(image, region::kSize, record.size.value);
  save64(image, region::kTtl, record.ttl_ns);
  save64(image, region::kCreated, static_cast<std::uint64_t>(record.created_unix_ns));
  save64(image, region::kExpiresBoot, static_cast<std::uint64_t>(record.expires_boot_ns));
  save64(image, region::kExpiresUnix, static_cast<std::uint64_t>(record.expires_unix_ns));
  save64(image, region::kExtent, record.extent);
  std::memcpy(image.data() + region::kBoot, record.boot.data(), record.boot.size());
  std::memcpy(image.data() + region::kSession, record.session.data(), record.session.size());
  save32(image, region::kOwner, record.owner);
  save32(image, region::kGroup, record.group);
  save16(image, region::kMode, static_cast<std::uint16_t>(record.mode));
  save8(image, region::kCache,
        static_cast<unsigned>(record.cache.mode) | (record.cache.required ? unsigned{kRequired} : 0U));
  save8(image, region::kCacheEffective, static_cast<unsigned>(record.cache_effective));
  // Which regions are irrevocable their pool knows: an older broker would not take a third kind.
  const SealKind seal = std::min(record.seal, SealKind::revocable);
  save8(image, region::kSealLifetime,
        static_cast<unsigned>(seal) | static_cast<unsigned>(record.lifetime) << 4U);
  save8(image, region::kState, static_cast<unsigned>(record.state));
  save8(image, region::kFlags,
        (record.volatile_memory ? kVolatile : 0U) | (record.published_unix_ns != 0 ? kPublished : 0U));
  if (record.published_unix_ns != 0) {
    // Over what decoding takes for nothing: a ttl, or a session, that this lifetime does not have.
    save64(image, published_at(record.lifetime), static_cast<std::uint64_t>(record.published_unix_ns));
    if (record.lifetime != LifetimeKind::connection) save64(image, region::kSession + 8, 0);
  }
  save_text(image, region::kNameLength, region::kName, record.name);
  save_text(image, region::kPoolLength, region::kPool, record.pool);
  return ok();
}

Result<void> encode(const QuotaRecord& record, SlotImage& image) {
  if (!is_pool_name(record.pool)) return unfit("pool name is longer than 23 printable characters");
  image.fill(std::byte{0});
  const std::array limits{record.limits.bytes, record.limits.regions, record.limits.grants,
                          record.limits.connections};
  unsigned present = 0;
  for (std::size_t i = 0; i < limits.size(); ++i) {
    if (!limits[i]) continue;
    present |= 1U << i;
    save64(image, quota::kLimits + 8 * i, *limits[i]);
  }
  save32(image, quota::kId, record.id);
  save8(image, quota::kSubject, static_cast<unsigned>(record.subject));
  save8(image, quota::kPresent, present);
  save_text(image, quota::kPoolLength, quota::kPool, record.pool);
  return ok();
}

Result<Record> decode(SlotBytes bytes, const SlotHeader& header) {
  MAPCAP_INVARIANT(header.kind != SlotKind::tombstone, "a tombstone has no record to decode");
  switch (header.kind) {
    case SlotKind::region:
      return decode_region(bytes);
    case SlotKind::endpoint: {
      MAPCAP_TRY(EndpointHead head, decode_endpoint_head(bytes));
      return Record(std::move(head));
    }
    case SlotKind::endpoint_text: {
      MAPCAP_TRY(EndpointText text, decode_endpoint_text(bytes));
      return Record(std::move(text));
    }
    default:
      return decode_quota(bytes);
  }
}

}  // namespace mapcap::broker::ledger
