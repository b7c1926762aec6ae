// In which order rules, mode and owner are asked. How one rule is held against a request: match.cpp.
#include "policy/judge.h"

#include "base/words.h"
#include "policy/plan.h"

namespace mapcap::policy {

using namespace std::chrono_literals;

namespace {

/// The three permission bits of the mode that are this subject's: owner, group or others, as for a file. Whoever
/// came by an endpoint has its own regions, and with others' regions its maker's bits.
std::uint32_t bits_for(const Existing& region, const Subject& asking) {
  const Subject& subject = asking.uid() == region.owner ? asking : asking.authority();
  if (subject.uid() == region.owner) return (region.mode >> 6U) & 7U;
  if (subject.in_group(region.group)) return (region.mode >> 3U) & 7U;
  return region.mode & 7U;
}

/// An endpoint manages what it made and nothing else, whoever made it.
bool may_manage(const Existing& region, const Subject& subject) {
  return subject.uid() == region.owner || subject.administrator();
}

Result<void> check_mode(const Existing& region, const Subject& subject, Access rights) {
  if (subject.administrator()) return ok();
  const std::uint32_t needed = rights == Access::read_write ? 6U : 4U;
  if ((bits_for(region, subject) & needed) == needed) return ok();
  return failure(ErrorCode::denied,
                 "the mode " + format_mode(region.mode) + " of region " + std::string(region.name) +
                     " (owner " + std::to_string(region.owner) + ", group " + std::to_string(region.group) +
                     ") does not give " + subject.describe() + " a " + std::string(to_string(rights)) +
                     " grant; its owner can re-create it with another --mode",
                 {{"rule", "mode"}, {"mode", format_mode(region.mode)}});
}

Result<Permit> judge_renew(const Policy& policy, const Subject& subject, const Existing& region,
                           const Wish& wish) {
  if (region.lifetime && region.lifetime->kind != LifetimeKind::ttl) {
    return failure(ErrorCode::invalid, "region " + std::string(region.name) + " has the lifetime " +
                                           std::string(to_string(region.lifetime->kind)) +
                                           ": only a ttl can be renewed");
  }
  if (wish.ttl && *wish.ttl < 1s) return failure(ErrorCode::invalid, "a ttl is at least 1 s");
  const Action action = action_on(region, wish);
  Result<Permit> allowed = policy.authorize(subject, action);
  if (allowed) return allowed;
  const std::string remedy = remedy_for(policy, subject, action);
  if (!remedy.empty()) {
    allowed.error().sentence += "; ask for " + remedy;
    allowed.error().details.push_back({"remedy", remedy});
  }
  return allowed;
}

}  // namespace

Action action_on(const Existing& region, const Wish& wish) {
  Action action;
  action.verb = wish.verb;
  action.name = region.name;
  action.pool = region.pool;
  if (wish.verb == Verb::open) action.rights = wish.rights;
  action.cache = region.cache;
  // A renew makes a ttl: the one that it wants is judged, not the one that there was.
  action.lifetime =
      wish.verb == Verb::renew && wish.ttl ? Lifetime{LifetimeKind::ttl, *wish.ttl} : region.lifetime;
  action.size = region.size;
  action.seal = region.seal;
  action.published = region.published;
  return action;
}

bool may_see(const Policy& policy, const Subject& subject, const Existing& region) {
  if (may_manage(region, subject)) return true;
  if (bits_for(region, subject) == 0) return false;
  return policy.allows(subject, action_on(region, {Verb::list}));
}

bool may_reach(const Policy& policy, const Subject& subject, const Existing& region, Verb verb) {
  const bool by_name = verb == Verb::open || verb == Verb::show;
  return may_see(policy, subject, region) ||
         (by_name && bits_for(region, subject) != 0 && policy.allows(subject, action_on(region, {verb})));
}

Failure no_such_region(std::string_view name) {
  return failure(ErrorCode::not_found, "there is no region named " + std::string(name) + " that you may see",
                 {{"name", std::string(name)}});
}

Result<Permit> judge(const Policy& policy, const Subject& subject, const Existing& region, const Wish& wish) {
  if (!may_reach(policy, subject, region, wish.verb)) return no_such_region(region.name);
  Action action = action_on(region, wish);
  if (wish.verb == Verb::list && may_manage(region, subject)) {
    // Whose it is sees it, whatever the rules say.
    Result<Permit> permit = policy.authorize(subject, action);
    return permit ? permit : Result<Permit>(Permit{});
  }
  if (wish.verb == Verb::renew) action.lifetime.reset();  // Judged below.
  MAPCAP_TRY(Permit permit, policy.authorize(subject, action));
  const bool manages = wish.verb == Verb::renew || wish.verb == Verb::revoke || wish.verb == Verb::publish;
  if (manages && !may_manage(region, subject)) {
    return failure(ErrorCode::denied,
                   "only the owner of region " + std::string(region.name) + " (user " +
                       std::to_string(region.owner) + ") or an administrator may do that",
                   {{"rule", "owner"}});
  }
  if (wish.verb == Verb::renew) return judge_renew(policy, subject, region, wish);
  if (wish.verb == Verb::open) {
    MAPCAP_TRY_VOID(check_mode(region, subject, wish.rights.value_or(Access::read_only)));
  }
  return permit;
}

}  // namespace mapcap::policy
