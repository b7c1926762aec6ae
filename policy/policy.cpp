#include "policy/policy.h"

#include <algorithm>
#include <utility>

#include "policy/endpoint.h"
#include "policy/match.h"
#include "policy/place.h"

namespace mapcap::policy {

namespace {

constexpr std::size_t kClosestShown = 3;

Failure denial(const Subject& subject, const Action& action, std::string sentence, const std::string& rule) {
  std::vector<Detail> details{{"verb", std::string(to_string(action.verb))}, {"user", subject.user()}};
  if (!action.name.empty()) details.push_back({"name", std::string(action.name)});
  if (!action.pool.empty()) details.push_back({"pool", std::string(action.pool)});
  if (!rule.empty()) details.push_back({"rule", rule});
  return failure(ErrorCode::denied, std::move(sentence), std::move(details));
}

/// Who came by an endpoint may not; the maker perhaps may.
Failure beyond_the_record(const Subject& subject, const Action& action, Part part) {
  const Endpoint& endpoint = *subject.endpoint();
  const std::string why =
      endpoint.ended ? "it has ended" : "it was made with " + why_not(endpoint.record, part, action);
  return denial(subject, action, subject.describe() + " does not allow " + describe(action) + ": " + why,
                endpoint.record.where);
}

/// "user alice", "user alice, who made endpoint reader-1".
std::string whom(const Subject& subject) {
  if (subject.endpoint() == nullptr) return subject.describe();
  return subject.authority().describe() + ", who made " + subject.describe();
}

}  // namespace

Policy::Policy(Settings settings) : settings_(std::move(settings)), index_(settings_.rules) {}

Policy::Verdict Policy::judge(const Subject& subject, const Action& action) const {
  Verdict verdict;
  if (const Endpoint* endpoint = subject.endpoint())
    verdict.beyond = endpoint->ended ? Part::subject : first_mismatch(endpoint->record, subject, action);
  const auto first = [&](Effect effect) -> const Rule* {
    const auto applies = [&](std::uint32_t index) {
      return first_mismatch(settings_.rules[index], subject, action) == Part::none;
    };
    const auto index = index_.first(effect, subject, action.verb, action.name, applies);
    return index ? &settings_.rules[*index] : nullptr;
  };
  verdict.deny = first(Effect::deny);
  if (verdict.deny == nullptr) verdict.allow = first(Effect::allow);
  return verdict;
}

bool Policy::allows(const Subject& subject, const Action& action) const {
  const Verdict verdict = judge(subject, action);
  return verdict.beyond == Part::none && verdict.deny == nullptr && verdict.allow != nullptr;
}

Result<Permit> Policy::authorize(const Subject& subject, const Action& action) const {
  const Verdict verdict = judge(subject, action);
  if (verdict.beyond != Part::none) return beyond_the_record(subject, action, verdict.beyond);
  if (verdict.deny != nullptr) {
    std::string sentence =
        "rule " + verdict.deny->where + " denies " + describe(action) + " to " + whom(subject);
    const SubjectMatch& match = verdict.deny->subject;
    if (match.placed()) {
      sentence += " in " + in_words(match);
      if (!place_known(subject))
        sentence +=
            "; which cgroup that is the kernel does not tell of this connection, so it counts as in all";
    }
    return denial(subject, action, std::move(sentence), verdict.deny->where);
  }
  if (verdict.allow == nullptr) {
    return denial(
        subject, action,
        "no rule allows " + describe(action) + " to " + whom(subject) + "; " + closest(subject, action), "");
  }
  return Permit{verdict.allow->where, verdict.allow->max_ttl, verdict.allow->max_size};
}

std::vector<std::pair<Part, const Rule*>> Policy::misses(const Subject& subject, const Action& action) const {
  std::vector<std::pair<Part, const Rule*>> misses;
  for (const std::uint32_t index : index_.near(subject, action.verb, action.name, kClosestShown)) {
    const Rule& rule = settings_.rules[index];
    misses.emplace_back(first_mismatch(rule, subject, action), &rule);
  }
  std::stable_sort(misses.begin(), misses.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  misses.resize(std::min(misses.size(), kClosestShown));
  return misses;
}

std::string Policy::closest(const Subject& subject, const Action& action) const {
  const std::vector<std::pair<Part, const Rule*>> closest = misses(subject, action);
  if (closest.empty()) return "no rule in " + settings_.source + " is about this user";
  std::string text = "rules that came closest: ";
  for (const auto& [part, rule] : closest) {
    text += (rule == closest.front().second ? "" : ", ") + rule->where + " (" + why_not(*rule, part, action) +
            ")";
  }
  return text;
}

Part Policy::closest_part(const Subject& subject, const Action& action) const {
  const auto closest = misses(subject, action);
  return closest.empty() ? Part::subject : closest.front().first;
}

std::vector<const Rule*> Policy::closest_rules(const Subject& subject, const Action& action) const {
  std::vector<const Rule*> rules;
  const Verdict verdict = judge(subject, action);
  if (verdict.deny != nullptr || verdict.beyond != Part::none) return rules;
  for (const auto& [part, rule] : misses(subject, action)) rules.push_back(rule);
  return rules;
}

std::vector<const Rule*> Policy::rules_for(const Subject& subject, RuleIndex::Of which) const {
  std::vector<const Rule*> rules;
  for (const std::uint32_t index : index_.about(subject, which)) rules.push_back(&settings_.rules[index]);
  return rules;
}

}  // namespace mapcap::policy
