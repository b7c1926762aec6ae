#include "schema/region_name.h"

#include <array>
#include <cstdio>

namespace mapcap::schema {
namespace {

bool allowed(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == '-';
}

/// How an error shows a byte: "'*'" when it prints, else "byte 0x0a".
std::string shown(char c) {
  if (c > ' ' && c < 0x7f) return std::string("'") + c + "'";
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "byte 0x%02x",
                static_cast<unsigned>(static_cast<unsigned char>(c)));
  return text.data();
}

Failure refusal(std::string what) {
  return failure(
      ErrorCode::invalid,
      "region name: " + what +
          "; use components of A-Z a-z 0-9 . _ - joined by single slashes, for example alice/buffer-1");
}

Result<void> check_component(std::string_view component, std::size_t position) {
  const std::string where = " at position " + std::to_string(position);
  if (component.empty()) return refusal("an empty component" + where);
  if (component == "." || component == "..") {
    return refusal("the component \"" + std::string(component) + "\"" + where);
  }
  if (component.front() == '-') return refusal("a component that begins with '-'" + where);
  return ok();
}

}  // namespace

std::optional<NamePlace> name_goes_on(NamePlace place, char c) {
  if (c == '/') return place == NamePlace::inside ? std::optional(NamePlace::start) : std::nullopt;
  if (!allowed(c) || (c == '-' && place == NamePlace::start)) return std::nullopt;
  if (c != '.') return NamePlace::inside;
  if (place == NamePlace::start) return NamePlace::dot;
  return place == NamePlace::dot ? NamePlace::dots : NamePlace::inside;
}

Result<RegionName> RegionName::parse(std::string_view text) {
  if (text.empty()) return refusal("it is empty");
  if (text.size() > kMaxLength) {
    return refusal(std::to_string(text.size()) + " bytes long, at most " + std::to_string(kMaxLength) +
                   " are allowed");
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!allowed(text[i]) && text[i] != '/') {
      return refusal(shown(text[i]) + " at position " + std::to_string(i) + " is not allowed");
    }
  }
  std::size_t start = 0;
  while (true) {
    const std::size_t slash = text.find('/', start);
    const std::size_t end = slash == std::string_view::npos ? text.size() : slash;
    MAPCAP_TRY_VOID(check_component(text.substr(start, end - start), start));
    if (slash == std::string_view::npos) break;
    start = slash + 1;
  }
  return RegionName(std::string(text));
}

}  // namespace mapcap::schema
