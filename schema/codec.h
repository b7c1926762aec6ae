// Values to packets and back. The only includer of the generated Cap'n Proto header is codec.cpp.
//
// One flat single-segment Cap'n Proto message a packet. A packet is refused as `malformed` when its length is 0,
// not a multiple of 8, above kMaxPacket, when it has more than one segment, when it does not end exactly where the
// message ends, when a pointer leaves it, nests deeper than 8 or makes a reader traverse more than the limit, or
// when an enumerant, text or field is outside its range. Decoding copies into aligned memory first and never
// trusts anything that the peer can still change.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "schema/request.h"

namespace mapcap::schema {

/// Largest request a client may send and largest packet a broker will send, in bytes.
inline constexpr std::size_t kMaxRequest = 4096;
inline constexpr std::size_t kMaxPacket = 64U << 10U;

using Packet = std::vector<std::byte>;

Packet encode(const Request&);
Packet encode(const FromBroker&);

/// Errors: `malformed`. The request id is unknown then: the error reply goes out with id 0.
Result<Request> decode_request(std::span<const std::byte>);
Result<FromBroker> decode_from_broker(std::span<const std::byte>);

/// Encoded size of one RegionInfo at most, to fill a listing page without overflow.
inline constexpr std::size_t kRegionInfoBytes = 512;

}  // namespace mapcap::schema
