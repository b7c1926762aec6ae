// May somebody do that with a region that exists? The rules, the region's mode and whose it is, in the order in
// which they are asked. The broker, `policy explain` and `policy diff` all ask here: they cannot disagree.
//
// Who may not reach a region is told that there is none. Owners and administrators always see it; anybody else
// whom its mode gives something and a rule allows to list it, or to open or show it, if that is what he asks for.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "policy/policy.h"
#include "policy/subject.h"

namespace mapcap::policy {

/// What rules and modes speak of. Absent: not known, which stops no allow (Action).
struct Existing {
  std::string_view name;
  std::string_view pool;
  std::uint32_t owner = 0;  ///< uid
  std::uint32_t group = 0;  ///< gid
  std::uint32_t mode = 0600;
  std::optional<ByteCount> size{};
  std::optional<SealKind> seal{};
  std::optional<CacheMode> cache{};  ///< The effective one.
  std::optional<Lifetime> lifetime{};
  bool published = false;
};

struct Wish {
  Verb verb = Verb::open;
  std::optional<Access> rights{};                 ///< Of an open.
  std::optional<std::chrono::nanoseconds> ttl{};  ///< Of a renew.
};

/// What is held against the rules. Refers to `region`.
Action action_on(const Existing& region, const Wish& wish);

bool may_see(const Policy& policy, const Subject& subject, const Existing& region);

/// May see it, or may do by its name what needs no list: open and show it.
bool may_reach(const Policy& policy, const Subject& subject, const Existing& region, Verb verb);

/// Errors: `not_found` for who may not reach it; `denied`, by the details "rule" (a place, "mode" or "owner") and
/// "remedy"; `invalid` for a renew that no region of its kind takes.
Result<Permit> judge(const Policy& policy, const Subject& subject, const Existing& region, const Wish& wish);

/// What who asks for a region that is not there is told, or not for him.
Failure no_such_region(std::string_view name);

}  // namespace mapcap::policy
