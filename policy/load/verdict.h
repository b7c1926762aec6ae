// What `mapcap policy check` prints: every problem with its line, as a compiler does, and a summary.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policy/load/loader.h"

namespace mapcap::policy {

/// Every one with its line of `text`, where that is known.
std::string in_words(std::string_view text, const std::string& source, const std::vector<Problem>& problems);

/// The same and a summary; `text` is what was examined, `source` its file's name.
std::string verdict_on(std::string_view text, const std::string& source, const Examined& examined);

}  // namespace mapcap::policy
