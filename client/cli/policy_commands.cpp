// policy check, policy explain, policy default: by the same code that the daemon decides with, and without
// it.
#include <unistd.h>

#include <iostream>

#include "base/machine/memory.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/raise.h"
#include "policy/load/loader.h"
#include "policy/load/verdict.h"
#include "policy/machine_share.h"
#include "policy/policy.h"
#include "policy/subject.h"

namespace mapcap::cli {
namespace {

constexpr const char* kInstalled = MAPCAP_POLICY;

// What the installed unit takes; a mapcapd that is started by hand without --policy takes the default.
std::shared_ptr<const policy::Policy> load(const std::string& file) {
  const auto read = [](const std::string& path) {
    const std::string text = value_or_raise(policy::read_anybodys_file(path));
    return value_or_raise(policy::load_text(text, path, policy::system_accounts()));
  };
  if (!file.empty()) return read(file);
  if (::access(kInstalled, F_OK) == 0) return read(kInstalled);
  return value_or_raise(policy::load_default());
}

}  // namespace

int perform(const Common& common, const PolicyCheckCommand& command) {
  const std::string text = value_or_raise(policy::read_anybodys_file(command.file));
  policy::Examined examined = policy::examine_text(text, command.file, policy::system_accounts());
  if (const auto trusted = policy::check_trusted(command.file); trusted.has_error()) {
    const std::string why = "a broker of root does not take this file: " + trusted.error().sentence;
    examined.problems.insert(examined.problems.begin(), {policy::Severity::warning, {}, why});
  }
  if (examined.policy) {
    const auto fits = policy::check_machine(examined.policy->pools(), machine::total_memory());
    if (fits.has_error()) {
      // Its sentence begins with the place of the pool that is one too many.
      const std::string& sentence = fits.error().sentence;
      policy::Problem problem{policy::Severity::error, {}, sentence};
      for (const policy::PoolSettings& pool : examined.policy->pools()) {
        if (!sentence.starts_with(pool.where + ": ")) continue;
        problem = {policy::Severity::error, pool.at.position, sentence.substr(pool.where.size() + 2)};
      }
      examined.problems.push_back(std::move(problem));
      examined.policy = nullptr;
    }
  }
  const bool valid = examined.policy != nullptr;
  if (common.json) {
    std::cout << json(command.file, examined.problems) << '\n';
  } else {
    (valid ? std::cout : std::cerr) << policy::verdict_on(text, command.file, examined);
  }
  return valid ? 0 : 1;
}

int perform(const Common& common, const PolicyExplainCommand& command) {
  const auto policy = load(command.file);
  const policy::Subject subject = value_or_raise(policy::Subject::for_explanation(command.user));
  policy::Action action;
  action.verb = value_or_raise(policy::parse_verb(command.verb));
  action.name = command.name;
  action.pool = command.pool;
  if (!command.pool.empty()) (void)value_or_raise(policy->find_pool(command.pool));
  const policy::Explanation explanation = policy->explain(subject, action);
  if (common.json) {
    std::cout << json_object({{"policy", policy->source()},
                              {"verdict", explanation.allowed ? "allowed" : "denied"},
                              {"explanation", explanation.text}})
              << '\n';
  } else {
    std::cout << explanation.text;
    if (!explanation.text.ends_with('\n')) std::cout << '\n';
  }
  return explanation.allowed ? 0 : 1;
}

int perform(const Common&, const PolicyDefaultCommand&) {
  std::cout << policy::default_text();
  return 0;
}

}  // namespace mapcap::cli
