#include "policy/plan.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/words.h"
#include "policy/match.h"
#include "schema/region_name.h"

namespace mapcap::policy {

using schema::Create;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kLargestRegion = std::numeric_limits<std::int64_t>::max();

/// "uc, wc"
template <typename Kind>
std::string words_of(const std::vector<Kind>& kinds) {
  std::string words;
  for (const Kind kind : kinds) words += (words.empty() ? "" : ", ") + std::string(to_string(kind));
  return words;
}

template <typename Kind>
bool has(const std::vector<Kind>& kinds, Kind kind) {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

/// What no region can be, whatever the pool and the policy.
Result<void> check_sense(const Create& ask) {
  MAPCAP_TRY_VOID(schema::RegionName::parse(ask.name));
  if (ask.size == 0 || ask.size > kLargestRegion) {
    return failure(ErrorCode::invalid, "a region has 1 to 2^63-1 bytes, not " + std::to_string(ask.size),
                   {{"asked", std::to_string(ask.size)}});
  }
  if ((ask.mode & ~0666U) != 0) {
    return failure(ErrorCode::invalid, "the mode has only r and w bits, 0000 to 0666");
  }
  if (ask.lifetime.kind == LifetimeKind::ttl && ask.lifetime.ttl < 1s) {
    return failure(ErrorCode::invalid, "a ttl is at least 1 s");
  }
  return ok();
}

/// A create in one pool. What the pool cannot make stays as it was asked for, and `fault` says why.
struct Filled {
  Action action;
  std::optional<Failure> fault;
};

Filled fill_in(const Create& ask, const Offer& offer) {
  Filled filled;
  const auto fault = [&filled](Failure error) {
    if (!filled.fault) filled.fault = std::move(error);
  };
  Action& action = filled.action;
  action.verb = Verb::create;
  action.name = ask.name;
  action.pool = offer.name;
  action.rights = ask.grant;
  action.lifetime = ask.lifetime;
  action.seal = ask.seal.value_or(offer.seals.front());
  if (!has(offer.seals, *action.seal)) {
    fault(failure(ErrorCode::unsupported, "pool " + offer.name + " makes no " +
                                              std::string(to_string(*action.seal)) + " regions, only " +
                                              words_of(offer.seals)));
  }
  const bool obtainable = has(offer.cache_modes, ask.cache.mode);
  action.cache = obtainable || ask.cache.required ? ask.cache.mode : offer.cache_modes.front();
  if (!obtainable && ask.cache.required) {
    const std::string available = words_of(offer.cache_modes);
    fault(failure(ErrorCode::cache_mode,
                  "pool " + offer.name + " cannot give cache mode " + std::string(to_string(ask.cache.mode)) +
                      "; it can give " + available,
                  {{"asked", std::string(to_string(ask.cache.mode))}, {"available", available}}));
  }
  Result<ByteCount> size = offer.size_for(ByteCount{ask.size}, *action.cache);
  action.size = size ? size.value() : ByteCount{ask.size};
  if (!size) fault(size.error());
  return filled;
}

/// Who is in no way of the region's group could not have made a file with it either.
Result<std::uint32_t> group_for(const Subject& subject, const Create& ask) {
  const std::uint32_t group = ask.group.value_or(subject.gid());
  if (subject.administrator() || subject.in_group(group)) return group;
  return failure(ErrorCode::denied, subject.describe() + " is not a member of group " + std::to_string(group),
                 {{"rule", "group"}});
}

struct Attempt {
  std::optional<Plan> plan;
  std::optional<Failure> refused;
  Part came_to = Part::subject;  ///< Of a refusal by the policy.
  bool allowed = false;          ///< The policy would, the pool cannot.
  Action judged;
};

Attempt attempt(const Policy& policy, const Subject& subject, const Create& ask, const Offer& offer) {
  Filled filled = fill_in(ask, offer);
  Attempt result;
  result.judged = filled.action;
  Result<Permit> permit = policy.authorize(subject, filled.action);
  if (!permit) {
    result.came_to = policy.closest_part(subject, filled.action);
    result.refused = std::move(permit.error());
    return result;
  }
  result.allowed = true;
  if (filled.fault) {
    result.refused = std::move(*filled.fault);
    return result;
  }
  const Action& made = filled.action;
  result.plan = Plan{0, 0, *made.size, *made.seal, *made.cache, std::move(permit.value())};
  return result;
}

Result<Plan> plan_without_advice(const Policy& policy, const Subject& subject, const Create& ask,
                                 std::span<const Offer> offers, Action* judged) {
  MAPCAP_TRY_VOID(check_sense(ask));
  MAPCAP_TRY(const std::uint32_t group, group_for(subject, ask));
  if (!ask.pool.empty()) {
    MAPCAP_TRY_VOID(policy.find_pool(ask.pool));
  }
  std::optional<Failure> closest;
  Part came_to = Part::subject;
  for (std::size_t i = 0; i < offers.size(); ++i) {
    if (!ask.pool.empty() && offers[i].name != ask.pool) continue;
    Attempt one = attempt(policy, subject, ask, offers[i]);
    const bool decides = one.plan || one.allowed || !closest || one.came_to > came_to;
    if (judged != nullptr && decides) *judged = one.judged;
    if (one.plan) {
      one.plan->offer = i;
      one.plan->group = group;
      return std::move(*one.plan);
    }
    if (one.allowed) return std::move(*one.refused);
    if (!closest || one.came_to > came_to) {
      closest = std::move(one.refused);
      came_to = one.came_to;
    }
  }
  if (closest) return std::move(*closest);
  return failure(ErrorCode::not_found, "no pool " + ask.pool + " is in service");
}

// ---- what would have to change

/// A request and the words that were added to it on the way.
template <typename Ask>
struct Changed {
  Ask ask;
  std::string words;

  void add(const std::string& word) { words += (words.empty() ? "" : " ") + word; }
};

/// The lifetime that the rule wants, of what it allows the one that is likeliest meant.
Lifetime lifetime_for(const Rule& rule) {
  const auto lists = [&](LifetimeKind kind) { return rule.lifetimes.test(static_cast<std::size_t>(kind)); };
  if (rule.lifetimes.none() || lists(LifetimeKind::ttl))
    return {LifetimeKind::ttl, rule.max_ttl.value_or(1h)};
  return {lists(LifetimeKind::persistent) ? LifetimeKind::persistent : LifetimeKind::connection, {}};
}

/// The first of a set, in the order of the enumerators.
template <typename Enum, std::size_t N>
Enum first_of(const std::bitset<N>& set) {
  std::size_t i = 0;
  while (i + 1 < N && !set.test(i)) ++i;
  return static_cast<Enum>(i);
}

/// `ask` as the rule would allow it, where a client can change what stands in the way.
std::optional<Changed<Create>> as_the_rule_wants(const Rule& rule, const std::vector<Part>& missed,
                                                 const Create& ask) {
  Changed<Create> changed{ask, ""};
  for (const Part part : missed) {
    switch (part) {
      case Part::pool:
        changed.ask.pool = rule.pools.front();
        changed.add("--pool " + rule.pools.front());
        break;
      case Part::rights:
        changed.ask.grant = rule.rights;
        changed.add("rights " + std::string(to_string(rule.rights.value_or(Access::read_only))));
        break;
      case Part::cache:
        changed.ask.cache = {first_of<CacheMode>(rule.cache), true};
        changed.add("--cache " + std::string(to_string(changed.ask.cache.mode)));
        break;
      case Part::lifetime:
      case Part::ttl:
        if (changed.ask.lifetime == lifetime_for(rule)) break;
        changed.ask.lifetime = lifetime_for(rule);
        changed.add("--lifetime " + format_lifetime(changed.ask.lifetime));
        break;
      case Part::size:
        changed.ask.size = rule.max_size->value;
        changed.add("--size " + format_bytes(*rule.max_size));
        break;
      case Part::seal:
        changed.ask.seal = first_of<SealKind>(rule.seals);
        changed.add("--" + std::string(to_string(*changed.ask.seal)));
        break;
      case Part::subject:
      case Part::verb:
      case Part::name:
      case Part::published:
      case Part::none:
        return std::nullopt;
    }
  }
  return changed;
}

/// The shortest change that makes the create allowed: tried, not guessed.
std::string remedy_for_create(const Policy& policy, const Subject& subject, const Create& ask,
                              std::span<const Offer> offers) {
  std::string best;
  for (const Offer& offer : offers) {
    if (!ask.pool.empty() && offer.name != ask.pool) continue;
    const Filled filled = fill_in(ask, offer);
    for (const Rule* rule : policy.closest_rules(subject, filled.action)) {
      const auto changed = as_the_rule_wants(*rule, mismatches(*rule, subject, filled.action), ask);
      if (!changed || changed->words.empty()) continue;
      if (!best.empty() && changed->words.size() >= best.size()) continue;
      if (plan_without_advice(policy, subject, changed->ask, offers, nullptr)) best = changed->words;
    }
  }
  return best;
}

void advise(Failure& refusal, const std::string& remedy) {
  if (remedy.empty()) return;
  refusal.sentence += "; add " + remedy;
  refusal.details.push_back({"remedy", remedy});
}

}  // namespace

Result<Plan> plan_create(const Policy& policy, const Subject& subject, const Create& ask,
                         std::span<const Offer> offers, Action* judged) {
  Result<Plan> plan = plan_without_advice(policy, subject, ask, offers, judged);
  if (!plan && plan.error().code == ErrorCode::denied && check_sense(ask))
    advise(plan.error(), remedy_for_create(policy, subject, ask, offers));
  return plan;
}

bool may_create(const Policy& policy, const Subject& subject, const Create& ask,
                std::span<const Offer> offers) {
  if (!check_sense(ask) || !group_for(subject, ask)) return false;
  const auto offer =
      std::find_if(offers.begin(), offers.end(), [&](const Offer& one) { return one.name == ask.pool; });
  if (offer == offers.end()) return false;
  const Filled filled = fill_in(ask, *offer);
  return !filled.fault && policy.allows(subject, filled.action);
}

std::string remedy_for(const Policy& policy, const Subject& subject, const Action& action) {
  for (const Rule* rule : policy.closest_rules(subject, action)) {
    Changed<Action> changed{action, ""};
    for (const Part part : mismatches(*rule, subject, action)) {
      if (part == Part::ttl && action.verb == Verb::renew) {
        changed.ask.lifetime->ttl = *rule->max_ttl;
        changed.add("--ttl " + format_duration_exact(*rule->max_ttl));
      } else if (part == Part::rights) {
        changed.ask.rights = rule->rights;
        changed.add("rights " + std::string(to_string(rule->rights.value_or(Access::read_only))));
      }
    }
    if (!changed.words.empty() && policy.allows(subject, changed.ask)) return changed.words;
  }
  return "";
}

std::vector<Offer> offers_of(const Policy& policy) {
  constexpr std::uint64_t kHugePage = 2U << 20U;
  std::vector<Offer> offers;
  for (const PoolSettings& pool : policy.pools()) {
    Offer offer{pool.name, pool.seals, pool.cache, {}};
    if (offer.cache_modes.empty()) {
      if (pool.backing == Backing::pci_bar) {
        offer.cache_modes = {CacheMode::uncached, CacheMode::write_combining};
      } else {
        offer.cache_modes = {pool.wt_platform ? CacheMode::write_through : CacheMode::write_back};
      }
    }
    const std::uint64_t granule = pool.huge ? kHugePage : kPageSize;
    offer.size_for = [granule](ByteCount asked, CacheMode) -> Result<ByteCount> {
      if (asked.value > kLargestRegion - granule)
        return failure(ErrorCode::pool_full, "no pool has " + format_bytes(asked));
      return ByteCount{(asked.value + granule - 1) / granule * granule};
    };
    offers.push_back(std::move(offer));
  }
  return offers;
}

}  // namespace mapcap::policy
