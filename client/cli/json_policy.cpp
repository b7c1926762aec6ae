// What is said about policies, for programs.
#include "base/units.h"
#include "client/cli/json.h"
#include "client/cli/json_line.h"
#include "client/cli/names.h"
#include "client/cli/text.h"
#include "policy/diff.h"

namespace mapcap::cli {
namespace {

using nlohmann::ordered_json;

ordered_json list_of(const std::string& file, const std::vector<PolicyProblem>& problems) {
  ordered_json list = ordered_json::array();
  for (const PolicyProblem& problem : problems) {
    list.push_back({{"file", file},
                    {"line", problem.line},
                    {"column", problem.column},
                    {"severity", problem.warning ? "warning" : "error"},
                    {"message", problem.message}});
  }
  return list;
}

ordered_json maybe(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

}  // namespace

std::string json(const ReloadOutcome& outcome) {
  if (!outcome.in_force) return line(list_of(outcome.file, outcome.problems));
  ordered_json changes = ordered_json::array();
  for (const PolicyChange& change : outcome.changes) {
    changes.push_back({{"what", change.what},
                       {"whom", change.whom},
                       {"place", maybe(change.place)},
                       {"detail", change.detail}});
  }
  return line({{"file", outcome.file},
               {"changes", std::move(changes)},
               {"problems", list_of(outcome.file, outcome.problems)},
               {"more", outcome.more}});
}

std::string json(const PolicyInForce& policy) {
  return line({{"file", policy.file},
               {"sha256", policy.sha256},
               {"loaded_unix_ns", policy.loaded_unix.count()},
               {"loaded_by", policy.loaded_by},
               {"pools", policy.pools},
               {"rules", policy.rules},
               {"quotas", policy.quotas},
               {"text", policy.text}});
}

std::string json(const PolicyQuestion& question, const PolicyAnswer& answer,
                 const std::vector<LeftOpen>& open) {
  ordered_json left = ordered_json::array();
  for (const LeftOpen& one : open)
    left.push_back({{"option", one.option}, {"taken", maybe(one.taken)}, {"why", one.why}});
  ordered_json judged = nullptr;
  if (answer.judged) {
    const RegionInfo& region = *answer.judged;
    judged = {{"pool", maybe(region.pool)},
              {"owner", region.owner},
              {"group", region.group},
              {"mode", format_mode(region.mode)},
              {"size", region.size},
              {"cache", to_string(region.cache.effective)},
              {"seal", to_string(region.seal)},
              {"lifetime", lifetime_text(region.lifetime)}};
  }
  ordered_json rules = ordered_json::array();
  for (const RuleSaid& rule : answer.rules) {
    rules.push_back({{"rule", rule.place},
                     {"effect", rule.denies ? "deny" : "allow"},
                     {"subject", rule.subject},
                     {"applies", rule.applies},
                     {"why", maybe(rule.why)}});
  }
  return line(
      {{"policy", answer.policy},
       {"user", answer.user},
       {"verb", question.verb},
       {"name", maybe(question.region.name)},
       {"verdict", answer.refusal ? "refused" : "allowed"},
       {"code", answer.refusal ? ordered_json(name_of(answer.refusal->code())) : ordered_json(nullptr)},
       {"sentence", answer.refusal ? ordered_json(answer.refusal->what()) : ordered_json(nullptr)},
       {"remedy", maybe(answer.refusal ? answer.refusal->detail("remedy") : "")},
       {"rule", maybe(answer.rule)},
       {"judged", std::move(judged)},
       {"left_open", std::move(left)},
       {"rules", std::move(rules)},
       {"more", answer.more},
       {"elsewhere", maybe(answer.elsewhere)}});
}

std::string json(const std::vector<policy::Difference>& differences) {
  ordered_json list = ordered_json::array();
  for (const policy::Difference& one : differences) {
    list.push_back({{"whom", one.whom},
                    {"change", one.gains ? "gains" : "loses"},
                    {"what", one.what},
                    {"name", maybe(one.name)},
                    {"pool", maybe(one.pool)},
                    {"why", one.why}});
  }
  return line(list);
}

}  // namespace mapcap::cli
