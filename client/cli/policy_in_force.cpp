// reload, policy show, policy diff
#include <iostream>
#include <optional>

#include "base/pieces.h"
#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/policy_file.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "policy/diff.h"
#include "policy/load/loader.h"
#include "policy/load/verdict.h"

namespace mapcap::cli {
namespace {

/// As `policy check` tells them; with the lines, where this user may read the file.
void tell_problems(const ReloadOutcome& outcome) {
  const Result<std::string> text = policy::read_anybodys_file(outcome.file);
  std::vector<policy::Problem> problems;
  for (const PolicyProblem& problem : outcome.problems) {
    problems.push_back({problem.warning ? policy::Severity::warning : policy::Severity::error,
                        {problem.line, problem.column},
                        problem.message});
  }
  std::cerr << policy::in_words(text ? text.value() : std::string(), outcome.file, problems);
}

std::vector<RegionInfo> live_regions(const Common& common) {
  std::vector<RegionInfo> regions = connect(common).list();
  std::erase_if(regions, [](const RegionInfo& region) { return region.state != RegionState::live; });
  return regions;
}

}  // namespace

int perform(const Common& common, const ReloadCommand&) {
  const ReloadOutcome outcome = connect(common).reload();
  if (common.json) {
    std::cout << json(outcome) << '\n';
    return outcome.in_force ? 0 : 1;
  }
  tell_problems(outcome);
  const std::string more =
      outcome.more == 0 ? "" : " (" + std::to_string(outcome.more) + " more are not told here)";
  if (!outcome.in_force) {
    std::cerr << outcome.file << " is refused: the policy from before stays in force, all of it" << more
              << '\n';
    return 1;
  }
  std::cout << outcome.file << " is in force: " << counted(outcome.changes.size() + outcome.more, "change")
            << more << '\n';
  if (outcome.changes.empty()) return 0;
  Table table({{"CHANGE"}, {"WHOM"}, {"PLACE"}, {"WHAT"}});
  for (const PolicyChange& change : outcome.changes)
    table.add({change.what, change.whom, change.place, change.detail});
  table.print(std::cout);
  return 0;
}

int perform(const Common& common, const PolicyShowCommand&) {
  const PolicyInForce policy = connect(common).policy();
  if (common.json) {
    std::cout << json(policy) << '\n';
    return 0;
  }
  std::cout << policy.text << std::flush;
  // Not on stdout, which is the file as it was loaded, to the byte.
  std::cerr << (policy.text.ends_with('\n') ? "" : "\n") << policy.file << ": "
            << counted(policy.pools, "pool") << ", " << counted(policy.rules, "rule") << ", "
            << counted(policy.quotas, "quota") << "; loaded " << time_text(policy.loaded_unix) << " by "
            << policy.loaded_by << "; sha256 " << policy.sha256 << '\n';
  return 0;
}

int perform(const Common& common, const PolicyDiffCommand& command) {
  const auto before = load_policy(command.before);
  const auto after = load_policy(command.after);
  std::vector<RegionInfo> live;
  std::string without;
  try {
    live = live_regions(common);
  } catch (const Error& error) {
    without = error.what();
  }
  const std::vector<policy::Person> people = policy::people_of(*before, *after, live);
  const std::vector<policy::Difference> found = policy::differences(*before, *after, people, live);
  if (common.json) {
    std::cout << json(found) << '\n';
    return 0;
  }
  for (const policy::Difference& one : found) {
    std::cout << one.whom << ": " << (one.gains ? "gains " : "loses ") << one.what
              << (one.name.empty() ? "" : " " + one.name) << (one.pool.empty() ? "" : " in pool " + one.pool)
              << " (" << one.why << ")\n";
  }
  if (found.empty()) std::cout << "nobody gains or loses anything that was compared\n";
  std::cout.flush();
  std::cerr << "compared "
            << (live.empty() ? "the names that the rules have in mind"
                             : counted(live.size(), "region") + " and the names that the rules have in mind");
  if (!without.empty()) std::cerr << ", without the regions of a broker: " << without;
  std::cerr << '\n';
  return 0;
}

}  // namespace mapcap::cli
