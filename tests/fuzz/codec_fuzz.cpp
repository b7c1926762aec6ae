// What decodes must encode to something that decodes to the same; what does not must be `malformed`. The
// first byte chooses the direction.
#include <cstdio>
#include <cstdlib>

#include "schema/codec.h"
#include "schema/region_name.h"

namespace {

using namespace mapcap;
using namespace mapcap::schema;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "codec_fuzz: %s\n", what);
  std::abort();
}

/// A hostile message may point to one text from many places: its values can outgrow a packet.
template <typename Value, typename Decode>
void round_trip(const Result<Value>& first, std::size_t most, Decode decode) {
  if (!first) {
    require(first.error().code == ErrorCode::malformed, "refused as something else than malformed");
    return;
  }
  const Packet packet = encode(first.value());
  if (packet.size() > most) return;
  const Result<Value> second = decode(packet);
  require(second.has_value(), "what was encoded does not decode");
  require(second.value() == first.value(), "a trip changed a value");
}

bool replaced_because_too_large(const Packet& packet, const FromBroker& original) {
  const Result<FromBroker> told = decode_from_broker(packet);
  return told && told.value() != original && std::holds_alternative<Reply>(told.value()) &&
         std::holds_alternative<Failure>(std::get<Reply>(told.value()).body);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size)).subspan(1);
  if (data[0] % 2 == 0) {
    const Result<Request> request = decode_request(bytes);
    round_trip(request, kMaxRequest, decode_request);
    if (request && std::holds_alternative<Show>(request.value().body)) {
      (void)RegionName::parse(std::get<Show>(request.value().body).name);
    }
  } else {
    const Result<FromBroker> answer = decode_from_broker(bytes);
    if (answer && replaced_because_too_large(encode(answer.value()), answer.value())) return 0;
    round_trip(answer, kMaxPacket, decode_from_broker);
  }
  return 0;
}
