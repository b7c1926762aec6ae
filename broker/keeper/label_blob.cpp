#include "broker/keeper/label_blob.h"

#include <array>

namespace mapcap::broker::keeper {
namespace {

// In the blob's order.
constexpr std::array<std::string_view, 5> kTexts = {
    "system.mapcap.name",       "system.mapcap.cache.requested", "system.mapcap.cache.effective",
    "system.mapcap.durability", "system.mapcap.confinement",
};

/// The text at `index`, or nothing when the blob ends before it does.
std::optional<std::string_view> text_at(std::string_view blob, std::size_t index) {
  for (std::size_t i = 0;; ++i) {
    if (blob.empty()) return std::nullopt;
    const std::size_t length = static_cast<unsigned char>(blob.front());
    if (blob.size() < 1 + length) return std::nullopt;
    if (i == index) return blob.substr(1, length);
    blob.remove_prefix(1 + length);
  }
}

}  // namespace

Result<std::string> encode_label(const confine::Label& label) {
  std::string blob;
  for (const std::string* text :
       {&label.name, &label.cache_requested, &label.cache_effective, &label.durability, &label.confinement}) {
    if (text->size() > 255) {
      return failure(ErrorCode::invalid,
                     "a grant's attribute has " + std::to_string(text->size()) + " bytes, at most 255 fit");
    }
    blob.push_back(static_cast<char>(text->size()));
    blob.append(*text);
  }
  if (blob.size() > kMaxLabelBytes) {
    return failure(ErrorCode::invalid, "a grant's attributes have " + std::to_string(blob.size()) +
                                           " bytes, at most " + std::to_string(kMaxLabelBytes) + " fit");
  }
  return blob;
}

bool valid_label(std::string_view blob) {
  for (std::size_t i = 0; i < kTexts.size(); ++i) {
    if (blob.empty()) return false;
    const std::size_t length = static_cast<unsigned char>(blob.front());
    if (blob.size() < 1 + length) return false;
    blob.remove_prefix(1 + length);
  }
  return blob.empty();
}

std::string_view name_in(std::string_view blob) {
  return text_at(blob, 0).value_or(std::string_view());
}

std::string_view attribute_names() {
  static constexpr std::string_view names(
      "system.mapcap.name\0system.mapcap.size\0system.mapcap.rights\0system.mapcap.cache.requested\0"
      "system.mapcap.cache.effective\0system.mapcap.durability\0system.mapcap.confinement\0"
      "system.mapcap.published",
      sizeof("system.mapcap.name\0system.mapcap.size\0system.mapcap.rights\0system.mapcap.cache.requested\0"
             "system.mapcap.cache.effective\0system.mapcap.durability\0system.mapcap.confinement\0"
             "system.mapcap.published"));
  return names;
}

std::optional<std::string> attribute(std::string_view name, std::string_view blob, const Particulars& of) {
  if (name == "system.mapcap.size") return std::to_string(of.size.value);
  if (name == "system.mapcap.rights") return std::string(to_string(of.rights));
  if (name == "system.mapcap.published")
    return of.published_unix_ns == 0 ? "no" : std::to_string(of.published_unix_ns);
  for (std::size_t i = 0; i < kTexts.size(); ++i) {
    if (name != kTexts[i]) continue;
    if (auto text = text_at(blob, i)) return std::string(*text);
  }
  return std::nullopt;
}

}  // namespace mapcap::broker::keeper
