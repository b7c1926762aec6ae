#include "schema/wire.h"

#include <array>
#include <cstring>

namespace mapcap::schema::codec {

static_assert(static_cast<int>(wire::Access::READ_WRITE) == static_cast<int>(Access::read_write));
static_assert(static_cast<int>(wire::CacheMode::UNCACHED) == static_cast<int>(CacheMode::uncached));
static_assert(static_cast<int>(wire::CacheMechanism::PLATFORM) == static_cast<int>(CacheMechanism::platform));
static_assert(static_cast<int>(wire::Granularity::BYTE) == static_cast<int>(Granularity::byte));
static_assert(static_cast<int>(wire::PersistenceDomain::CPU_CACHE) ==
              static_cast<int>(PersistenceDomain::cpu_cache));
static_assert(static_cast<int>(wire::Confinement::LSM) == static_cast<int>(Confinement::lsm));
static_assert(static_cast<int>(wire::SealKind::IRREVOCABLE) == static_cast<int>(SealKind::irrevocable));
static_assert(static_cast<int>(wire::RegionState::LOST) == static_cast<int>(RegionState::lost));
static_assert(static_cast<int>(wire::SubjectKind::GROUP) == static_cast<int>(SubjectKind::group));
static_assert(static_cast<int>(wire::OnEnd::KEEP) == static_cast<int>(OnEnd::keep));
static_assert(static_cast<int>(wire::EndpointState::ENDED) == static_cast<int>(EndpointState::ended));
static_assert(static_cast<int>(wire::NoticeKind::PROGRESS) == static_cast<int>(NoticeKind::progress));

Failure malformed(std::string_view field, std::string_view what) {
  std::string sentence = "malformed message: ";
  sentence.append(field).append(": ").append(presentable(what, 400));
  return failure(ErrorCode::malformed, std::move(sentence), {{"field", std::string(field)}});
}

Result<std::string> read_text(capnp::Text::Reader text, std::string_view field, std::size_t max_bytes,
                              Controls controls) {
  if (text.size() > max_bytes) {
    return malformed(
        field, std::to_string(text.size()) + " bytes, at most " + std::to_string(max_bytes) + " are allowed");
  }
  const std::string_view view(text.begin(), text.size());
  const std::size_t bad = find_bad_text(view, controls);
  if (bad != std::string_view::npos) {
    return malformed(field, "the byte at position " + std::to_string(bad) +
                                " is not part of UTF-8 text without NUL and control characters");
  }
  return std::string(view);
}

Result<std::chrono::nanoseconds> read_duration(std::int64_t nanoseconds, std::string_view field) {
  if (nanoseconds < 0 || nanoseconds > kMaxDuration.count()) {
    return malformed(field, std::to_string(nanoseconds) + " ns is not within 0 and 100 years");
  }
  return std::chrono::nanoseconds(nanoseconds);
}

Result<std::uint32_t> read_mode(std::uint16_t mode, std::string_view field) {
  if ((mode & ~0666U) != 0) return malformed(field, "has bits other than r and w for user, group and others");
  return std::uint32_t{mode};
}

Result<std::string> read_resume(capnp::Data::Reader data, std::string_view field) {
  if (data.size() != 0 && data.size() != kResumeBytes) {
    return malformed(field, std::to_string(data.size()) + " bytes; a resume token has 16, or 0 for none");
  }
  return std::string(data.begin(), data.end());
}

capnp::Data::Reader as_data(const std::string& bytes) {
  // SAFETY: char and kj::byte (unsigned char) may alias.
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

Result<Access> read_access(wire::Access value, std::string_view field) {
  return read_enum(value, Access::read_write, field);
}
Result<CacheMode> read_cache_mode(wire::CacheMode value, std::string_view field) {
  return read_enum(value, CacheMode::uncached, field);
}
Result<SealKind> read_seal(wire::SealKind value, std::string_view field) {
  return read_enum(value, SealKind::irrevocable, field);
}
Result<SubjectKind> read_subject(wire::SubjectKind value, std::string_view field) {
  return read_enum(value, SubjectKind::group, field);
}

// ---- shared structs

Result<Lifetime> read(wire::Lifetime::Reader reader) {
  switch (reader.which()) {
    case wire::Lifetime::CONNECTION:
      return Lifetime{LifetimeKind::connection, {}};
    case wire::Lifetime::PERSISTENT:
      return Lifetime{LifetimeKind::persistent, {}};
    case wire::Lifetime::TTL_NS: {
      MAPCAP_TRY(const auto ttl, read_duration(reader.getTtlNs(), "lifetime.ttl"));
      return Lifetime{LifetimeKind::ttl, ttl};
    }
  }
  return malformed("lifetime", "unknown kind");
}

void write(const Lifetime& value, wire::Lifetime::Builder builder) {
  switch (value.kind) {
    case LifetimeKind::connection:
      builder.setConnection();
      return;
    case LifetimeKind::ttl:
      builder.setTtlNs(value.ttl.count());
      return;
    case LifetimeKind::persistent:
      builder.setPersistent();
      return;
  }
}

namespace {

Result<std::optional<std::uint64_t>> read(wire::Limit::Reader reader) {
  switch (reader.which()) {
    case wire::Limit::UNLIMITED:
      return std::optional<std::uint64_t>();
    case wire::Limit::MOST:
      return std::optional<std::uint64_t>(reader.getMost());
  }
  return malformed("limit", "unknown kind");
}

void write(const std::optional<std::uint64_t>& limit, wire::Limit::Builder builder) {
  if (limit) {
    builder.setMost(*limit);
  } else {
    builder.setUnlimited();
  }
}

}  // namespace

Result<Limits> read(wire::Limits::Reader reader) {
  Limits limits;
  MAPCAP_TRY(limits.bytes, read(reader.getBytes()));
  MAPCAP_TRY(limits.regions, read(reader.getRegions()));
  MAPCAP_TRY(limits.grants, read(reader.getGrants()));
  MAPCAP_TRY(limits.connections, read(reader.getConnections()));
  return limits;
}

void write(const Limits& limits, wire::Limits::Builder builder) {
  write(limits.bytes, builder.initBytes());
  write(limits.regions, builder.initRegions());
  write(limits.grants, builder.initGrants());
  write(limits.connections, builder.initConnections());
}

Result<QuotaSlot> read(wire::QuotaSlot::Reader reader) {
  QuotaSlot slot;
  MAPCAP_TRY(slot.subject, read_subject(reader.getSubject(), "slot.subject"));
  slot.id = reader.getId();
  MAPCAP_TRY(slot.pool, read_text(reader.getPool(), "slot.pool", kMaxPoolName));
  return slot;
}

void write(const QuotaSlot& slot, wire::QuotaSlot::Builder builder) {
  builder.setSubject(as_wire<wire::SubjectKind>(slot.subject));
  builder.setId(slot.id);
  builder.setPool(as_text(slot.pool));
}

// ---- framing

namespace {

/// Cap'n Proto's stream header of a message of one segment: segment count - 1, then its size in words.
struct SegmentHeader {
  std::uint32_t others = 0;
  std::uint32_t words = 0;
};
static_assert(sizeof(SegmentHeader) == sizeof(capnp::word));

}  // namespace

Packet frame(kj::ArrayPtr<const capnp::word> segment) {
  const SegmentHeader header{0, static_cast<std::uint32_t>(segment.size())};
  Packet packet(sizeof header + segment.size() * sizeof(capnp::word));
  std::memcpy(packet.data(), &header, sizeof header);
  std::memcpy(packet.data() + sizeof header, segment.begin(), segment.size() * sizeof(capnp::word));
  return packet;
}

Result<kj::Array<capnp::word>> unframe(std::span<const std::byte> bytes, std::size_t max_bytes) {
  SegmentHeader header;
  if (bytes.size() > max_bytes) {
    return malformed("packet", std::to_string(bytes.size()) + " bytes, at most " + std::to_string(max_bytes) +
                                   " are allowed");
  }
  if (bytes.size() < sizeof header || bytes.size() % sizeof(capnp::word) != 0) {
    return malformed("packet", std::to_string(bytes.size()) + " bytes is not a positive multiple of 8");
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::span<const std::byte> payload = bytes.subspan(sizeof header);
  if (header.others != 0) return malformed("packet", "more than one segment");
  if (payload.empty() || std::uint64_t{header.words} * sizeof(capnp::word) != payload.size()) {
    return malformed("packet", "does not end where the message ends");
  }
  auto words = kj::heapArray<capnp::word>(header.words);
  std::memcpy(words.begin(), payload.data(), payload.size());
  return words;
}

}  // namespace mapcap::schema::codec
