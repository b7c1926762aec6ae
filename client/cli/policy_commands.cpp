// policy check, policy default: by the same code that the daemon decides with, and without it.
#include <iostream>

#include "base/machine/memory.h"
#include "client/cli/commands.h"
#include "client/cli/doctor.h"
#include "client/cli/json.h"
#include "client/raise.h"
#include "policy/load/loader.h"
#include "policy/load/verdict.h"
#include "policy/machine_share.h"

namespace mapcap::cli {
int perform(const Common& common, const PolicyCheckCommand& command) {
  const std::string text = value_or_raise(policy::read_anybodys_file(command.file));
  policy::Examined examined = policy::examine_text(text, command.file, policy::system_accounts());
  if (const auto trusted = policy::check_trusted(command.file); trusted.has_error()) {
    const std::string why = "a broker of root does not take this file: " + trusted.error().sentence;
    examined.problems.insert(examined.problems.begin(), {policy::Severity::warning, {}, why});
  }
  if (examined.policy) {
    if (auto beyond = policy::beyond_machine(examined.policy->pools(), machine::total_memory())) {
      examined.problems.push_back(std::move(*beyond));
      examined.policy = nullptr;
    }
  }
  if (examined.policy) {
    for (policy::Problem& problem : policy::unconfined(examined.policy->pools(), confinement_facts())) {
      if (problem.severity == policy::Severity::error) examined.policy = nullptr;
      examined.problems.push_back(std::move(problem));
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

int perform(const Common&, const PolicyDefaultCommand&) {
  std::cout << policy::default_text();
  return 0;
}

}  // namespace mapcap::cli
