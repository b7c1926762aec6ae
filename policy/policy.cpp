#include "policy/policy.h"

#include <algorithm>
#include <utility>

#include "policy/endpoint.h"
#include "policy/match.h"

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

Policy::Policy(Settings settings) : settings_(std::move(settings)) {
  for (std::uint32_t i = 0; i < settings_.rules.size(); ++i) {
    const SubjectMatch& subject = settings_.rules[i].subject;
    if (subject.any) for_any_.push_back(i);
    if (subject.administrator) for_administrators_.push_back(i);
    if (subject.endpoints()) for_endpoints_.push_back(i);
    for (const std::uint32_t uid : subject.uids) by_uid_[uid].push_back(i);
    for (const std::uint32_t gid : subject.gids) by_gid_[gid].push_back(i);
  }
}

/// Indices of the rules whose subject is meant, in the file's order.
std::vector<std::uint32_t> Policy::rules_about(const Subject& asking) const {
  const Subject& subject = asking.authority();
  std::vector<std::uint32_t> rules;
  const auto add = [&rules](const Index& index, std::uint32_t id) {
    const auto found = index.find(id);
    if (found != index.end()) rules.insert(rules.end(), found->second.begin(), found->second.end());
  };
  const auto add_person = [&](std::uint32_t uid, const std::vector<std::uint32_t>& groups) {
    add(by_uid_, uid);
    // By the shorter way: a user may be in 65,536 groups.
    if (by_gid_.size() < groups.size()) {
      for (const auto& [gid, about] : by_gid_) {
        if (std::binary_search(groups.begin(), groups.end(), gid))
          rules.insert(rules.end(), about.begin(), about.end());
      }
    } else {
      for (const std::uint32_t gid : groups) add(by_gid_, gid);
    }
  };
  if (const Lender* lender = subject.lender()) {
    add_person(lender->uid, lender->groups);
    // What is denied to him; what is allowed to him is not.
    std::erase_if(rules,
                  [this](std::uint32_t index) { return settings_.rules[index].effect == Effect::allow; });
  }
  rules.insert(rules.end(), for_any_.begin(), for_any_.end());
  if (subject.administrator())
    rules.insert(rules.end(), for_administrators_.begin(), for_administrators_.end());
  add_person(subject.uid(), subject.groups());
  if (asking.endpoint() != nullptr) rules.insert(rules.end(), for_endpoints_.begin(), for_endpoints_.end());
  std::sort(rules.begin(), rules.end());
  rules.erase(std::unique(rules.begin(), rules.end()), rules.end());
  return rules;
}

Policy::Verdict Policy::judge(const Subject& subject, const Action& action) const {
  Verdict verdict;
  if (const Endpoint* endpoint = subject.endpoint())
    verdict.beyond = endpoint->ended ? Part::subject : first_mismatch(endpoint->record, subject, action);
  for (const std::uint32_t index : rules_about(subject)) {
    const Rule& rule = settings_.rules[index];
    if (rule.effect == Effect::allow && verdict.allow != nullptr) continue;
    if (first_mismatch(rule, subject, action) != Part::none) continue;
    if (rule.effect == Effect::deny) {
      verdict.deny = &rule;
      return verdict;
    }
    verdict.allow = &rule;
  }
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
    return denial(subject, action,
                  "rule " + verdict.deny->where + " denies " + describe(action) + " to " + whom(subject),
                  verdict.deny->where);
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
  for (const std::uint32_t index : rules_about(subject)) {
    const Rule& rule = settings_.rules[index];
    if (rule.effect == Effect::allow) misses.emplace_back(first_mismatch(rule, subject, action), &rule);
  }
  std::stable_sort(misses.begin(), misses.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  return misses;
}

std::string Policy::closest(const Subject& subject, const Action& action) const {
  std::vector<std::pair<Part, const Rule*>> closest = misses(subject, action);
  if (closest.empty()) return "no rule in " + settings_.source + " is about this user";
  closest.resize(std::min(closest.size(), kClosestShown));
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
  for (const auto& [part, rule] : misses(subject, action)) {
    if (rules.size() < kClosestShown) rules.push_back(rule);
  }
  return rules;
}

std::vector<const Rule*> Policy::rules_for(const Subject& subject) const {
  std::vector<const Rule*> rules;
  for (const std::uint32_t index : rules_about(subject)) {
    const Rule* rule = &settings_.rules[index];
    if (rules.empty() || rules.back() != rule) rules.push_back(rule);
  }
  return rules;
}

const QuotaRule* Policy::quota_of(SubjectKind kind, std::uint32_t id, std::string_view pool) const {
  for (const QuotaRule& quota : settings_.quotas) {
    if (!quota.endpoints && quota.subject == kind && quota.id == id && quota.pool == pool) return &quota;
  }
  return nullptr;
}

std::vector<QuotaSlot> Policy::quota_slots(std::uint32_t uid, std::uint32_t gid,
                                           std::string_view pool) const {
  std::vector<QuotaSlot> slots;
  const auto add = [&slots](const QuotaRule* quota, std::uint32_t id) {
    if (quota != nullptr) slots.push_back({quota->subject, id, quota->pool, quota->limits, quota->where});
  };
  std::vector<std::string_view> scopes{""};
  if (!pool.empty()) scopes.insert(scopes.begin(), pool);
  for (const std::string_view scope : scopes) add(quota_of(SubjectKind::user, uid, scope), uid);
  for (const std::string_view scope : scopes) add(quota_of(SubjectKind::group, gid, scope), gid);
  for (const std::string_view scope : scopes) {
    if (quota_of(SubjectKind::user, uid, scope) == nullptr) add(quota_of(SubjectKind::any, 0, scope), uid);
  }
  return slots;
}

}  // namespace mapcap::policy
