// Inside the layouts only: fields of a slot that are bytes or text.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "base/result.h"
#include "broker/ledger/table/slot.h"

namespace mapcap::broker::ledger {

inline void save8(SlotImage& image, std::size_t offset, unsigned value) {
  image[offset] = static_cast<std::byte>(value);
}
inline unsigned load8(SlotBytes bytes, std::size_t offset) {
  return std::to_integer<unsigned>(bytes[offset]);
}

inline void save_text(SlotImage& image, std::size_t length_at, std::size_t text_at, const std::string& text) {
  save8(image, length_at, static_cast<unsigned>(text.size()));
  std::memcpy(image.data() + text_at, text.data(), text.size());
}

inline std::string load_text(SlotBytes bytes, std::size_t text_at, std::size_t length) {
  // SAFETY: the caller has checked text_at + length against the slot.
  return {reinterpret_cast<const char*>(bytes.data()) + text_at, length};
}

inline bool all_zero(SlotBytes bytes, std::size_t from, std::size_t to) {
  return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                     bytes.begin() + static_cast<std::ptrdiff_t>(to),
                     [](std::byte b) { return b == std::byte{0}; });
}

inline Failure unfit(std::string_view what) {
  return failure(ErrorCode::invalid, "the ledger cannot keep a record whose " + std::string(what));
}

template <typename Kind>
bool within(unsigned value, Kind last) {
  return value <= static_cast<unsigned>(last);
}

}  // namespace mapcap::broker::ledger
