// What `mapcap policy check` prints: every problem with its line, as a compiler does, and a summary.
#pragma once

#include <string>
#include <string_view>

#include "policy/load/loader.h"

namespace mapcap::policy {

/// `text` is what was examined, `source` its file's name.
std::string verdict_on(std::string_view text, const std::string& source, const Examined& examined);

}  // namespace mapcap::policy
