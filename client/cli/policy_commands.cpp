// policy check, policy explain, policy default: by the same code that the daemon decides with, and without
// it.
#include <unistd.h>

#include <iostream>

#include "base/machine/memory.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/raise.h"
#include "policy/load/loader.h"
#include "policy/machine_share.h"
#include "policy/policy.h"
#include "policy/subject.h"

namespace mapcap::cli {
namespace {

constexpr const char* kInstalled = MAPCAP_POLICY;

// What the installed unit takes; a mapcapd that is started by hand without --policy takes the default.
std::shared_ptr<const policy::Policy> load(const std::string& file) {
  if (!file.empty()) return value_or_raise(policy::load_file(file));
  if (::access(kInstalled, F_OK) == 0) return value_or_raise(policy::load_file(kInstalled));
  return value_or_raise(policy::load_default());
}

}  // namespace

int perform(const Common& common, const PolicyCheckCommand& command) {
  auto loaded = policy::load_file(command.file);
  if (loaded.has_value()) {
    const auto fits = policy::check_machine(loaded.value()->pools(), machine::total_memory());
    if (fits.has_error()) loaded = fits.error();
  }
  if (loaded.has_error()) {
    // One line a problem, as a compiler does: the sentence is only the first of them.
    std::size_t problems = 0;
    for (const Detail& detail : loaded.error().details) {
      if (detail.key != "problem") continue;
      std::cerr << detail.value << '\n';
      ++problems;
    }
    if (problems == 0) raise(loaded.error());
    std::cerr << "mapcap: " << command.file << " has " << problems
              << (problems == 1 ? " problem" : " problems") << "; a broker would refuse it\n";
    if (common.json) std::cout << json(Error(ErrorCode::invalid, loaded.error().sentence)) << '\n';
    return 1;
  }
  const policy::Policy& policy = *loaded.value();
  if (common.json) {
    std::cout << json_object({{"file", command.file}, {"verdict", "valid"}}) << '\n';
  } else {
    std::cout << command.file << " is valid: " << policy.pools().size() << " pools, "
              << policy.quotas().size() << " quotas\n";
  }
  return 0;
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
