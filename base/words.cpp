#include "base/words.h"

#include <array>
#include <utility>

#include <vector>
#include "base/units.h"

#include "base/nearest.h"

namespace mapcap {
namespace {

// One table a word, for printing and parsing alike.
template <typename Enum, std::size_t N>
using Words = std::array<std::pair<Enum, std::string_view>, N>;

constexpr Words<Access, 2> kAccess{{{Access::read_only, "ro"}, {Access::read_write, "rw"}}};
constexpr Words<CacheMode, 4> kCacheModes{{{CacheMode::write_back, "wb"},
                                           {CacheMode::write_through, "wt"},
                                           {CacheMode::write_combining, "wc"},
                                           {CacheMode::uncached, "uc"}}};
constexpr Words<CacheMechanism, 3> kMechanisms{{{CacheMechanism::page_attribute, "page-attribute"},
                                                {CacheMechanism::store_discipline, "store-discipline"},
                                                {CacheMechanism::platform, "platform"}}};
constexpr Words<Granularity, 4> kGranularities{{{Granularity::none, "none"},
                                                {Granularity::page, "page"},
                                                {Granularity::cache_line, "cache-line"},
                                                {Granularity::byte, "byte"}}};
constexpr Words<PersistenceDomain, 4> kDomains{{{PersistenceDomain::volatile_memory, "volatile"},
                                                {PersistenceDomain::block_device, "block-device"},
                                                {PersistenceDomain::memory_controller, "memory-controller"},
                                                {PersistenceDomain::cpu_cache, "cpu-cache"}}};
constexpr Words<Confinement, 4> kConfinements{{{Confinement::sealed, "sealed"},
                                               {Confinement::clone, "clone"},
                                               {Confinement::native, "native"},
                                               {Confinement::lsm, "lsm"}}};
constexpr Words<SealKind, 3> kSeals{{{SealKind::sealed, "sealed"},
                                     {SealKind::revocable, "revocable"},
                                     {SealKind::irrevocable, "irrevocable"}}};
constexpr Words<LifetimeKind, 3> kLifetimes{{{LifetimeKind::connection, "connection"},
                                             {LifetimeKind::ttl, "ttl"},
                                             {LifetimeKind::persistent, "persistent"}}};
constexpr Words<RegionState, 6> kStates{{{RegionState::live, "live"},
                                         {RegionState::revoking, "revoking"},
                                         {RegionState::draining, "draining"},
                                         {RegionState::scrubbing, "scrubbing"},
                                         {RegionState::quarantined, "quarantined"},
                                         {RegionState::lost, "lost"}}};
constexpr Words<OnEnd, 2> kOnEnd{{{OnEnd::revoke, "revoke"}, {OnEnd::keep, "keep"}}};
constexpr Words<EndpointState, 3> kEndpointStates{
    {{EndpointState::active, "active"}, {EndpointState::ending, "ending"}, {EndpointState::ended, "ended"}}};

template <typename Enum, std::size_t N>
std::string_view word_of(const Words<Enum, N>& words, Enum value) {
  for (const auto& [candidate, word] : words) {
    if (candidate == value) return word;
  }
  return "unknown";
}

template <typename Enum, std::size_t N>
Result<Enum> value_of(const Words<Enum, N>& words, std::string_view what, std::string_view text) {
  std::vector<std::string_view> known;
  for (const auto& [value, word] : words) {
    if (word == text) return value;
    known.push_back(word);
  }
  return failure(ErrorCode::invalid, not_one_of(what, text, known));
}

}  // namespace

std::string_view to_string(Access value) {
  return word_of(kAccess, value);
}
std::string_view to_string(CacheMode value) {
  return word_of(kCacheModes, value);
}
std::string_view to_string(CacheMechanism value) {
  return word_of(kMechanisms, value);
}
std::string_view to_string(Granularity value) {
  return word_of(kGranularities, value);
}
std::string_view to_string(PersistenceDomain value) {
  return word_of(kDomains, value);
}
std::string_view to_string(Confinement value) {
  return word_of(kConfinements, value);
}
std::string_view to_string(SealKind value) {
  return word_of(kSeals, value);
}
std::string_view to_string(LifetimeKind value) {
  return word_of(kLifetimes, value);
}
std::string_view to_string(RegionState value) {
  return word_of(kStates, value);
}
std::string_view to_string(OnEnd value) {
  return word_of(kOnEnd, value);
}
std::string_view to_string(EndpointState value) {
  return word_of(kEndpointStates, value);
}

std::string format_lifetime(const Lifetime& lifetime) {
  if (lifetime.kind != LifetimeKind::ttl) return std::string(to_string(lifetime.kind));
  return "ttl:" + format_duration_exact(lifetime.ttl);
}

Result<Access> parse_access(std::string_view text) {
  return value_of(kAccess, "rights", text);
}
Result<CacheMode> parse_cache_mode(std::string_view text) {
  return value_of(kCacheModes, "cache mode", text);
}
Result<Confinement> parse_confinement(std::string_view text) {
  return value_of(kConfinements, "confinement", text);
}
Result<RegionState> parse_region_state(std::string_view text) {
  return value_of(kStates, "state", text);
}
Result<SealKind> parse_seal_kind(std::string_view text) {
  return value_of(kSeals, "seal", text);
}
Result<LifetimeKind> parse_lifetime_kind(std::string_view text) {
  return value_of(kLifetimes, "lifetime", text);
}

Result<OnEnd> parse_on_end(std::string_view text) {
  return value_of(kOnEnd, "what becomes of regions", text);
}

Result<Lifetime> parse_lifetime(std::string_view text) {
  constexpr std::string_view kTtl = "ttl:";
  if (text.starts_with(kTtl)) {
    MAPCAP_TRY(const std::chrono::nanoseconds ttl, parse_duration(text.substr(kTtl.size())));
    return Lifetime{LifetimeKind::ttl, ttl};
  }
  if (text == "ttl") {
    return failure(ErrorCode::invalid, "lifetime \"ttl\" needs a duration; write for example ttl:1h");
  }
  if (parse_duration(text)) {
    return failure(ErrorCode::invalid,
                   "lifetime \"" + std::string(text) + "\" is a duration; write ttl:" + std::string(text));
  }
  MAPCAP_TRY(const LifetimeKind kind, parse_lifetime_kind(text));
  return Lifetime{kind, {}};
}

}  // namespace mapcap
