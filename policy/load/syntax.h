// What a TOML parser trips over, in the words of whoever wrote the file.
#pragma once

#include <string_view>

#include "policy/problem.h"

namespace mapcap::policy {

/// `at` and `said`: where the parser stopped, and its own words. The place that comes back is where the
/// mistake begins: an unclosed string's quote, not the end of its line.
Problem syntax_problem(std::string_view text, Position at, std::string_view said);

}  // namespace mapcap::policy
