// A grant's label as bytes: how it travels from the broker through the issuing page into the keeper's node.
//
// Five texts (name, requested cache mode, effective cache mode, durability, confinement), each one length
// byte and that many bytes. Size, rights, holder and whether it is published are not in it, so that all grants of a
// region share one blob.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "broker/confine/confiner.h"

namespace mapcap::broker::keeper {

inline constexpr std::size_t kMaxLabelBytes = 1024;

/// Errors: `invalid` when a text is longer than 255 bytes or all are longer than kMaxLabelBytes.
Result<std::string> encode_label(const confine::Label& label);

/// True when `blob` is what encode_label makes.
bool valid_label(std::string_view blob);

/// The region's name in a valid one.
std::string_view name_in(std::string_view blob);

/// All attribute names, as listxattr wants them: each followed by a NUL.
std::string_view attribute_names();

/// What is not in the blob.
struct Particulars {
  ByteCount size;
  Access rights = Access::read_only;
  std::int64_t published_unix_ns = 0;  ///< 0: the region is not published.
};

/// The value of one `system.mapcap.*` attribute, or nothing when there is no such attribute.
std::optional<std::string> attribute(std::string_view name, std::string_view blob, const Particulars& of);

}  // namespace mapcap::broker::keeper
