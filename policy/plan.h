// A create, with everything that it leaves open filled in: what is judged is exactly what will be made.
//
// Rules speak of size, seal, cache mode and lifetime. Were they held against what a client wrote, leaving a
// field out would pass every rule about it, and a size would be judged before it is rounded up.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "mapcap/words.h"
#include "policy/policy.h"
#include "policy/subject.h"
#include "schema/request.h"

namespace mapcap::policy {

/// What a pool can make.
struct Offer {
  std::string name;
  std::vector<SealKind> seals;         ///< At least one; the first is the default.
  std::vector<CacheMode> cache_modes;  ///< At least one; the first is what the backing is by nature.
  /// What a region of this size and cache mode would have. Errors: `pool_full`.
  std::function<Result<ByteCount>(ByteCount, CacheMode)> size_for;
};

/// What will be made of a create.
struct Plan {
  std::size_t offer = 0;  ///< Which of the offers.
  std::uint32_t group = 0;
  ByteCount size;
  SealKind seal = SealKind::sealed;
  CacheMode cache = CacheMode::write_back;  ///< What it will be, not what was asked for.
  Permit permit;
};

/// The first offer, or the one that is asked for, in which the policy allows what would be made. Errors:
/// `invalid` for what no region can be; `not_found`: no such pool; `denied`: of the pool that came closest,
/// with what would have to be asked for instead where that helps (detail "remedy"); `unsupported`,
/// `cache_mode`, `pool_full`: it is allowed, and cannot be made there.
/// `judged`, where not null, becomes what was held against the rules: of that pool, or of the one that came
/// closest; as it was where nothing was. It refers to `ask` and `offers`.
Result<Plan> plan_create(const Policy& policy, const Subject& subject, const schema::Create& ask,
                         std::span<const Offer> offers, Action* judged = nullptr);

/// Whether plan_create would succeed, of a create that names its pool: the same judgement, without the sentence.
bool may_create(const Policy& policy, const Subject& subject, const schema::Create& ask,
                std::span<const Offer> offers);

/// "--lifetime ttl:24h": what to add to a renew or an open that was refused, or nothing that helps.
std::string remedy_for(const Policy& policy, const Subject& subject, const Action& action);

/// What the pools of a policy offer as far as the file tells: sizes are rounded for memory, and taken as they
/// are where only the device knows.
std::vector<Offer> offers_of(const Policy& policy);

}  // namespace mapcap::policy
