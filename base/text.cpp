#include "base/text.h"

namespace mapcap {
namespace {

bool continues(std::string_view text, std::size_t i) {
  return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U;
}

/// Length of the well-formed UTF-8 sequence at `i`, 0 when there is none. RFC 3629, table of section 4.
std::size_t sequence_length(std::string_view text, std::size_t i) {
  const auto lead = static_cast<unsigned char>(text[i]);
  if (lead < 0x80) return 1;
  const auto second = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0U;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(text, i + 1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned least = lead == 0xE0 ? 0xA0 : 0x80;  // shortest form
    const unsigned most = lead == 0xED ? 0x9F : 0xBF;   // no surrogates
    return second >= least && second <= most && continues(text, i + 2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned least = lead == 0xF0 ? 0x90 : 0x80;  // shortest form
    const unsigned most = lead == 0xF4 ? 0x8F : 0xBF;   // at most U+10FFFF
    return second >= least && second <= most && continues(text, i + 2) && continues(text, i + 3) ? 4 : 0;
  }
  return 0;
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

}  // namespace

std::size_t find_bad_text(std::string_view text, Controls controls) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = sequence_length(text, i);
    if (length == 0 || text[i] == '\0') return i;
    if (controls == Controls::refused && is_control(text[i])) return i;
    i += length;
  }
  return std::string_view::npos;
}

std::string presentable(std::string_view text, std::size_t max_bytes) {
  constexpr std::string_view kCut = "...";
  std::string result;
  std::size_t room_for_cut = 0;  // as far as `result` may be kept when the rest does not fit
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = sequence_length(text, i);
    const bool good = length > 0 && !is_control(text[i]);
    const std::string_view piece = good ? text.substr(i, length) : std::string_view("?");
    if (result.size() + piece.size() > max_bytes) {
      result.resize(room_for_cut);
      return result.append(kCut);
    }
    result += piece;
    if (result.size() + kCut.size() <= max_bytes) room_for_cut = result.size();
    i += length > 0 ? length : 1;
  }
  return result;
}

}  // namespace mapcap
