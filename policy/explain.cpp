#include "policy/explain.h"

#include <algorithm>
#include <utility>

#include "base/units.h"
#include "policy/match.h"
#include "policy/place.h"

namespace mapcap::policy {

namespace {

/// Bytes of an answer in which it is told where else it is denied, before it says that there are more.
constexpr std::size_t kMostOfPlaces = 400;

/// What decides first, then the closest.
void tell_rules(schema::Explained& told, const Policy& policy, const Subject& subject, const Action& action) {
  std::vector<std::pair<Part, const Rule*>> rules;
  for (const Rule* rule : policy.rules_for(subject))
    rules.emplace_back(first_mismatch(*rule, subject, action), rule);
  const auto rank = [](const std::pair<Part, const Rule*>& one) {
    const bool denies = one.first == Part::none && one.second->effect == Effect::deny;
    return std::pair(!denies, -static_cast<int>(one.first));
  };
  std::stable_sort(rules.begin(), rules.end(),
                   [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  for (const auto& [part, rule] : rules) {
    if (told.rules.size() == kRulesTold) break;
    const bool applies = part == Part::none;
    told.rules.push_back({rule->where, rule->effect == Effect::deny, rule->subject.text, applies,
                          applies ? "" : why_not(*rule, part, action)});
  }
  told.more = static_cast<std::uint32_t>(rules.size() - told.rules.size());
}

/// What is explained is explained of somebody who runs nowhere in particular. Who runs where a rule denies it is denied.
void tell_places(schema::Explained& told, const Policy& policy, const Subject& subject,
                 const Action& action) {
  if (told.refusal) return;
  for (const Rule* rule : policy.rules_for(subject)) {
    if (rule->effect != Effect::deny || !rule->subject.placed()) continue;
    Rule everywhere = *rule;
    everywhere.subject.unit.clear();
    everywhere.subject.cgroup.clear();
    if (first_mismatch(everywhere, subject, action) != Part::none) continue;
    told.elsewhere += (told.elsewhere.empty() ? "" : "; ") + ("rule " + rule->where) + " denies it in " +
                      in_words(rule->subject);
    if (told.elsewhere.size() > kMostOfPlaces) {
      told.elsewhere += "; and in others";
      return;
    }
  }
}

void take_verdict(schema::Explained& told, Result<Permit> verdict) {
  if (verdict) {
    told.rule = std::move(verdict.value().rule);
    return;
  }
  told.refusal = std::move(verdict.error());
  for (const Detail& detail : told.refusal->details) {
    if (detail.key == "rule") told.rule = detail.value;
  }
}

/// What a create would make, or the region that there is.
RegionInfo judged_of(const Action& action, std::uint32_t owner, std::uint32_t group, std::uint32_t mode) {
  RegionInfo region;
  region.name = action.name;
  region.pool = action.pool;
  region.owner = owner;
  region.group = group;
  region.mode = mode;
  region.size = action.size.value_or(ByteCount{}).value;
  region.cache.effective = action.cache.value_or(CacheMode::write_back);
  region.cache.requested = region.cache.effective;
  region.seal = action.seal.value_or(SealKind::sealed);
  region.lifetime = action.lifetime.value_or(Lifetime{});
  return region;
}

void explain_create(schema::Explained& told, const Policy& policy, const Subject& subject,
                    const Question& question) {
  const schema::Create ask{question.asked.region, question.asked.rights};
  Action judged;
  judged.verb = Verb::create;
  judged.name = ask.name;
  judged.pool = ask.pool;
  judged.rights = ask.grant;
  Result<Plan> plan = plan_create(policy, subject, ask, question.offers, &judged);
  if (judged.seal) {
    told.judged = judged_of(judged, subject.uid(), ask.group.value_or(subject.gid()), ask.mode);
    told.judged->cache.requested = ask.cache.mode;
    told.judged->cache.required = ask.cache.required;
  }
  take_verdict(told, plan ? Result<Permit>(std::move(plan.value().permit)) : Result<Permit>(plan.error()));
  tell_places(told, policy, subject, judged);
  tell_rules(told, policy, subject, judged);
}

}  // namespace

schema::Explained explain(const Policy& policy, const Subject& subject, const Question& question) {
  schema::Explained told;
  told.policy = policy.source();
  told.user = subject.describe();
  if (question.verb == Verb::create) {
    explain_create(told, policy, subject, question);
    return told;
  }
  const PolicyQuestion& asked = question.asked;
  const Wish wish{question.verb, asked.rights, asked.ttl};
  if (nameless(question.verb)) {
    Action action;
    action.verb = question.verb;
    if (question.verb == Verb::clone) action.rights = asked.rights.value_or(Access::read_only);
    take_verdict(told, policy.authorize(subject, action));
    tell_places(told, policy, subject, action);
    tell_rules(told, policy, subject, action);
    return told;
  }
  if (!question.existing) {
    take_verdict(told, no_such_region(asked.region.name));
    tell_rules(told, policy, subject, action_on({asked.region.name, {}}, wish));
    return told;
  }
  const Existing& region = *question.existing;
  Wish filled = wish;
  if (filled.verb == Verb::open && !filled.rights) filled.rights = Access::read_only;
  const Action action = action_on(region, filled);
  told.judged = judged_of(action_on(region, {Verb::show}), region.owner, region.group, region.mode);
  take_verdict(told, judge(policy, subject, region, filled));
  if (told.refusal && told.refusal->code == ErrorCode::not_found) {
    const Result<Permit> listed = policy.authorize(subject, action_on(region, {Verb::list}));
    told.refusal->details.push_back(
        {"because", listed ? "its mode " + format_mode(region.mode) + " gives him nothing"
                           : "he may not see it: " + listed.error().sentence});
  }
  tell_places(told, policy, subject, action);
  tell_rules(told, policy, subject, action);
  return told;
}

}  // namespace mapcap::policy
