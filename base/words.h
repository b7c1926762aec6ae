// The shared words as people write them: parsed, and what to_string does not print.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "mapcap/words.h"

namespace mapcap {

std::string_view to_string(LifetimeKind);       ///< "connection", "ttl", "persistent"
std::string format_lifetime(const Lifetime&);   ///< "connection", "ttl:1h", "persistent"
Result<Access> parse_access(std::string_view);  ///< Errors: `invalid`, listing what is accepted.
Result<CacheMode> parse_cache_mode(std::string_view);
Result<Confinement> parse_confinement(std::string_view);
Result<SealKind> parse_seal_kind(std::string_view);
Result<RegionState> parse_region_state(std::string_view);
Result<Lifetime> parse_lifetime(std::string_view);  ///< "connection", "ttl:1h", "persistent"
Result<LifetimeKind> parse_lifetime_kind(std::string_view);
Result<OnEnd> parse_on_end(std::string_view);

}  // namespace mapcap
