// An endpoint in slots: a head, which says that it exists and all that may change, and before it as many
// slots of text as its lists take. FORMAT.md documents every byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "broker/ledger/table/record.h"
#include "broker/ledger/table/slot.h"

namespace mapcap::broker::ledger {

inline constexpr std::size_t kEndpointTextBytes = 216;  ///< In one slot.
inline constexpr std::size_t kMaxEndpointTexts = 16;
inline constexpr std::size_t kMaxEndpointText = kEndpointTextBytes * kMaxEndpointTexts;

/// All but the lists, and how much text those are.
struct EndpointHead {
  EndpointRecord record;
  std::size_t text_bytes = 0;
};

struct EndpointText {
  std::uint64_t endpoint = 0;  ///< The head's number.
  std::uint8_t index = 0;
  std::string text;
};

/// The lists as lines: "n models/**", "p dram", "v open", "l key=value", "g 1000". Errors: `invalid` for more
/// than kMaxEndpointText, and for what has a line break in it.
Result<std::string> text_of(const EndpointRecord& record);
/// The other way. Errors: `invalid` for anything else.
Result<void> read_text(std::string_view text, EndpointRecord& record);

/// How many slots a text takes.
constexpr std::size_t texts_for(std::size_t bytes) {
  return (bytes + kEndpointTextBytes - 1) / kEndpointTextBytes;
}

/// Errors: `invalid` for an id that does not fit.
Result<void> encode(const EndpointRecord& record, std::size_t text_bytes, SlotImage& image);
/// Its index-th slot of text.
void encode_text(std::uint64_t endpoint, std::size_t index, std::string_view text, SlotImage& image);

Result<EndpointHead> decode_endpoint_head(SlotBytes bytes);
Result<EndpointText> decode_endpoint_text(SlotBytes bytes);

}  // namespace mapcap::broker::ledger
