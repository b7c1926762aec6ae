// Values to packets and back. Only the codec's own files (wire, codec_request, codec_reply) see Cap'n Proto.
//
// One flat single-segment Cap'n Proto message a packet. A packet is refused as `malformed` when its length is
// 0, not a multiple of 8, above kMaxPacket, when it has more than one segment, when it does not end exactly
// where the message ends, when a pointer leaves it, nests deeper than 8 or makes a reader traverse more than
// the limit, or when an enumerant, text or field is outside its range. Decoding copies into aligned memory
// first and never trusts anything that the peer can still change.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "schema/reply.h"
#include "schema/request.h"

namespace mapcap::schema {

/// Largest request a client may send and largest packet a broker will send, in bytes.
inline constexpr std::size_t kMaxRequest = 4096;
inline constexpr std::size_t kMaxPacket = 64U << 10U;

using Packet = std::vector<std::byte>;

/// A request with texts over their limits encodes to something that the broker refuses: judge names first.
Packet encode(const Request&);
/// Never more than kMaxPacket bytes: a reply that does not fit becomes an Error `exhausted` with the same id.
/// Error texts are made presentable (see text.h) and cut to their limits.
Packet encode(const FromBroker&);

/// Errors: `malformed`. The request id is unknown then: the error reply goes out with id 0.
Result<Request> decode_request(std::span<const std::byte>);
Result<FromBroker> decode_from_broker(std::span<const std::byte>);

/// Encoded size at most, to fill a page without overflow: of one RegionInfo with a valid name, of one
/// QuotaInfo, of one PoolInfo.
inline constexpr std::size_t kRegionInfoBytes = 600;
inline constexpr std::size_t kQuotaInfoBytes = 400;
inline constexpr std::size_t kPoolInfoBytes = 640;
/// Of one EndpointInfo, beyond its spec, which a request brought.
inline constexpr std::size_t kEndpointInfoBytes = 512;

}  // namespace mapcap::schema
