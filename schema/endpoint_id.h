// What an endpoint and its labels may be called.
#pragma once

#include <cstddef>
#include <string_view>

#include "base/result.h"
#include "mapcap/words.h"

namespace mapcap::schema {

inline constexpr std::size_t kMaxEndpointId = 64;
inline constexpr std::size_t kMaxLabelText = 63;

/// 1 to 64 of [a-z0-9._-], the first of them a letter or a digit: it is the name of a directory, a component
/// of region names and a word of commands. Errors: `invalid`, saying which byte is wrong.
Result<void> check_endpoint_id(std::string_view id);

/// Errors: `invalid` for a key or value that is not 1 to 63 of [A-Za-z0-9._/-].
Result<void> check_label(const Label& label);

/// Why no id of an endpoint matches the glob, as schema::why_no_name_matches; empty when one can.
std::string why_no_endpoint_matches(std::string_view pattern);

}  // namespace mapcap::schema
