// Inside the codec only: how one field and one packet go to Cap'n Proto and back.
//
// read_* refuse what is outside its range with `malformed`, naming the field. kj::Exception, which the
// library throws while a reader walks a hostile message, ends in decode_packet and nowhere else.
#pragma once

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "mapcap.capnp.h"
#include "schema/codec.h"

namespace mapcap::schema::codec {

// ---- one field

Failure malformed(std::string_view field, std::string_view what);

Result<std::string> read_text(capnp::Text::Reader text, std::string_view field, std::size_t max_bytes,
                              Controls controls = Controls::refused);
/// 0 to 100 years.
Result<std::chrono::nanoseconds> read_duration(std::int64_t nanoseconds, std::string_view field);
/// Permission bits, 0 to 0666.
Result<std::uint32_t> read_mode(std::uint16_t mode, std::string_view field);
/// Empty or kResumeBytes bytes.
Result<std::string> read_resume(capnp::Data::Reader data, std::string_view field);

inline capnp::Text::Reader as_text(const std::string& text) {
  return {text.c_str(), text.size()};
}
capnp::Data::Reader as_data(const std::string& bytes);

/// Enumerants have the same numbers on both sides, `last` is the highest known.
template <typename Enum, typename Wire>
Result<Enum> read_enum(Wire value, Enum last, std::string_view field) {
  if (static_cast<std::uint16_t>(value) > static_cast<std::uint16_t>(last)) {
    return malformed(field, "unknown enumerant " + std::to_string(static_cast<std::uint16_t>(value)));
  }
  return static_cast<Enum>(value);
}
template <typename Wire, typename Enum>
Wire as_wire(Enum value) {
  return static_cast<Wire>(value);
}

Result<Access> read_access(wire::Access value, std::string_view field);
Result<CacheMode> read_cache_mode(wire::CacheMode value, std::string_view field);
Result<SealKind> read_seal(wire::SealKind value, std::string_view field);
Result<SubjectKind> read_subject(wire::SubjectKind value, std::string_view field);
/// Of wire::RegionInfo::remaining and its like: absent without limit.
template <typename Remaining>
Result<std::optional<std::chrono::nanoseconds>> read_remaining(Remaining reader, std::string_view field) {
  switch (reader.which()) {
    case Remaining::Reads::UNLIMITED:
      return std::optional<std::chrono::nanoseconds>();
    case Remaining::Reads::NS: {
      MAPCAP_TRY(const auto remaining, read_duration(reader.getNs(), field));
      return std::optional<std::chrono::nanoseconds>(remaining);
    }
  }
  return malformed(field, "unknown kind");
}
template <typename Remaining>
void write_remaining(const std::optional<std::chrono::nanoseconds>& remaining, Remaining builder) {
  if (remaining) {
    builder.setNs(remaining->count());
  } else {
    builder.setUnlimited();
  }
}

// ---- structs that requests and replies share

Result<Lifetime> read(wire::Lifetime::Reader);
Result<Limits> read(wire::Limits::Reader);
Result<QuotaSlot> read(wire::QuotaSlot::Reader);
void write(const Lifetime&, wire::Lifetime::Builder);
void write(const Limits&, wire::Limits::Builder);
void write(const QuotaSlot&, wire::QuotaSlot::Builder);

Result<Create> read(wire::Create::Reader);
void write(const Create&, wire::Create::Builder);

Result<Durability> read(wire::Durability::Reader);
Result<RegionInfo> read(wire::RegionInfo::Reader);
Result<PoolInfo> read(wire::PoolInfo::Reader);
Result<QuotaInfo> read(wire::QuotaInfo::Reader);
void write(const Durability&, wire::Durability::Builder);
void write(const RegionInfo&, wire::RegionInfo::Builder);
void write(const PoolInfo&, wire::PoolInfo::Builder);
void write(const QuotaInfo&, wire::QuotaInfo::Builder);

/// An out-parameter, because Result<Failure> could not say which of the two it holds.
Result<void> read_into(Failure& result, wire::Error::Reader);
/// A sentence may quote a path or a device: whatever is in it, the client can read the reply.
void write(const Failure&, wire::Error::Builder);

// What is said about policies.
Result<ReloadOutcome> read(wire::Reloaded::Reader);
Result<PolicyPiece> read(wire::PolicyInForce::Reader);
Result<Explained> read(wire::Explained::Reader);
void write(const ReloadOutcome&, wire::Reloaded::Builder);
void write(const PolicyPiece&, wire::PolicyInForce::Builder);
void write(const Explained&, wire::Explained::Builder);

// ---- lists

unsigned count_of(const auto& values) {
  return static_cast<unsigned>(values.size());
}
/// `read_one` and `write_one` as lambdas, since a template finds only what was declared before it.
template <typename Value, typename WireList, typename ReadOne>
Result<std::vector<Value>> read_list(WireList list, ReadOne read_one) {
  std::vector<Value> values;
  values.reserve(list.size());
  for (auto element : list) {
    MAPCAP_TRY(Value value, read_one(element));
    values.push_back(std::move(value));
  }
  return values;
}
template <typename Value, typename WireList, typename WriteOne>
void write_list(const std::vector<Value>& values, WireList list, WriteOne write_one) {
  for (std::size_t i = 0; i < values.size(); ++i) write_one(values[i], list[static_cast<unsigned>(i)]);
}

Result<EndpointSpec> read(wire::EndpointSpec::Reader);
void write(const EndpointSpec&, wire::EndpointSpec::Builder);
Result<EndpointTold> read(wire::EndpointTold::Reader);
void write(const EndpointTold&, wire::EndpointTold::Builder);
Result<EndpointListing> read(wire::EndpointListing::Reader);
void write(const EndpointListing&, wire::EndpointListing::Builder);
Result<EndpointEnded> read(wire::EndpointEnded::Reader);
void write(const EndpointEnded&, wire::EndpointEnded::Builder);

// ---- one packet

/// The message as one segment, whatever the builder took.
template <typename Root>
Packet seal(capnp::MallocMessageBuilder& message);

/// Header and payload of the only segment.
Packet frame(kj::ArrayPtr<const capnp::word> segment);

/// An aligned copy of the one segment of `bytes`. Errors: `malformed` for every framing that codec.h refuses.
Result<kj::Array<capnp::word>> unframe(std::span<const std::byte> bytes, std::size_t max_bytes);

/// Runs `decode` on the root of the message in `bytes`.
template <typename Root, typename Value, typename Decode>
Result<Value> decode_packet(std::span<const std::byte> bytes, std::size_t max_bytes, Decode decode) {
  MAPCAP_TRY(const kj::Array<capnp::word> words, unframe(bytes, max_bytes));
  // No field is read twice, so a message needs no more than its own size; the root pointer is one word more.
  capnp::ReaderOptions limits;
  limits.traversalLimitInWords = words.size() + 1;
  limits.nestingLimit = 8;
  try {
    const kj::ArrayPtr<const capnp::word> segment = words;
    capnp::SegmentArrayMessageReader reader(kj::arrayPtr(&segment, 1), limits);
    return decode(reader.getRoot<Root>());
  } catch (const kj::Exception& exception) {
    return malformed("message", exception.getDescription().cStr());
  }
}

template <typename Root>
Packet seal(capnp::MallocMessageBuilder& message) {
  const auto segments = message.getSegmentsForOutput();
  if (segments.size() == 1) return frame(segments[0]);
  // It outgrew its first segment: copy it into one that is large enough.
  const auto root = message.getRoot<Root>().asReader();
  capnp::MallocMessageBuilder flat(static_cast<unsigned>(root.totalSize().wordCount + 1));
  flat.setRoot(root);
  const auto one = flat.getSegmentsForOutput();
  MAPCAP_INVARIANT(one.size() == 1, "a message of known size does not fit one segment");
  return frame(one[0]);
}

}  // namespace mapcap::schema::codec
