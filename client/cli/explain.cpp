// policy explain: by the functions that the broker answers by, of a file; or the broker itself.
#include "policy/explain.h"

#include <unistd.h>

#include <iostream>

#include "base/units.h"
#include "base/words.h"
#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/names.h"
#include "client/cli/policy_file.h"
#include "client/cli/text.h"
#include "client/raise.h"
#include "policy/accounts.h"
#include "policy/load/loader.h"

namespace mapcap::cli {
namespace {

constexpr const char* kInstalled = MAPCAP_POLICY;

// What the installed unit takes; a mapcapd that is started by hand without --policy takes the default.
std::shared_ptr<const policy::Policy> load(const std::string& file) {
  if (!file.empty()) return load_policy(file);
  if (::access(kInstalled, F_OK) == 0) return load_policy(kInstalled);
  return value_or_raise(policy::load_default());
}

bool is_create(const PolicyExplainCommand& command) {
  return command.question.verb == "create";
}

/// What the options say that there is. Refers to the command.
policy::Existing existing_of(const PolicyExplainCommand& command, const policy::Subject& subject) {
  const RegionSpec& spec = command.question.region;
  const auto given = [&](const char* option) { return command.given.contains(option); };
  policy::Existing region;
  region.name = spec.name;
  region.pool = spec.pool;
  region.owner = command.owner.value_or(subject.uid());
  region.group = subject.gid();
  if (const auto account = command.owner ? policy::find_account(*command.owner) : std::nullopt)
    region.group = account->gid;
  region.group = spec.group.value_or(region.group);
  region.mode = spec.mode;
  if (given("--size")) region.size = ByteCount{spec.size};
  if (given("--cache") || given("--prefer-cache")) region.cache = spec.cache.mode;
  if (given("--lifetime")) region.lifetime = spec.lifetime;
  region.seal = spec.seal;
  return region;
}

/// "readers" of "endpoint:readers"; no user is called so.
std::string_view endpoint_of(std::string_view who) {
  constexpr std::string_view kEndpoint = "endpoint:";
  return who.starts_with(kEndpoint) ? who.substr(kEndpoint.size()) : std::string_view();
}

PolicyAnswer by_file(const PolicyExplainCommand& command) {
  if (!endpoint_of(command.user).empty())
    throw Error(ErrorCode::invalid, "only the broker knows what endpoint " +
                                        std::string(endpoint_of(command.user)) + " is: add --broker");
  const auto policy = load(command.file);
  const policy::Subject subject = value_or_raise(policy::Subject::for_explanation(command.user));
  const std::vector<policy::Offer> offers = policy::offers_of(*policy);
  policy::Question question{value_or_raise(policy::parse_verb(command.question.verb)), command.question,
                            offers, existing_of(command, subject)};
  const std::string& pool = command.question.region.pool;
  if (!pool.empty()) (void)value_or_raise(policy->find_pool(pool));
  return as_answer(policy::explain(*policy, subject, question));
}

PolicyAnswer by_broker(const Common& common, const PolicyExplainCommand& command) {
  PolicyQuestion question = command.question;
  if (const std::string_view endpoint = endpoint_of(command.user); !endpoint.empty()) {
    Client broker = connect(common);
    question.uid = broker.endpoint(endpoint).principal;
    return broker.explain(question);
  }
  const std::optional<std::uint32_t> uid = uid_named(command.user);
  if (!uid) throw Error(ErrorCode::not_found, "user \"" + command.user + "\" is not known on this machine");
  question.uid = *uid;
  return connect(common).explain(question);
}

/// What nobody said, and what was judged in its place.
std::vector<LeftOpen> left_open(const PolicyExplainCommand& command, const PolicyAnswer& answer) {
  std::vector<LeftOpen> open;
  const auto tell = [&](const std::string& option, const std::string& taken, const std::string& why) {
    if (!command.given.contains(option)) open.push_back({option, taken, why});
  };
  const bool create = is_create(command);
  if (!answer.judged || (command.ask_broker && !create)) return open;
  const RegionInfo& region = *answer.judged;
  if (!create) {
    tell("--owner", user_name(region.owner), "the region is his own");
    tell("--group", group_name(region.group), "its owner's primary group");
    tell("--mode", format_mode(region.mode), "as `create` makes it");
    if (command.question.verb == "open") tell("--rights", "ro", "as `open` asks for");
    for (const char* option : {"--pool", "--size", "--lifetime"})
      tell(option, "", "not known: stops no rule that allows");
    return open;
  }
  tell("--pool", region.pool, answer.refusal ? "it came closest" : "the first that may be used");
  // Rounded to what the pool makes, where it was said too.
  if (!command.given.contains("--size") || region.size != command.question.region.size) {
    open.push_back({"--size", size_text(region.size),
                    command.given.contains("--size") ? "rounded up to what the pool makes" : "the smallest"});
  }
  tell("--lifetime", lifetime_text(region.lifetime), "as `create` does");
  if (!command.given.contains("--cache") &&
      (!command.given.contains("--prefer-cache") || region.cache.effective != region.cache.requested)) {
    open.push_back({"--cache", std::string(to_string(region.cache.effective)), "what the pool gives"});
  }
  if (!command.given.contains("--sealed") && !command.given.contains("--revocable"))
    open.push_back({"--" + std::string(to_string(region.seal)), "", "the pool's default"});
  tell("--mode", format_mode(region.mode), "as `create` does");
  tell("--group", group_name(region.group), "the user's primary group");
  return open;
}

void print(const PolicyExplainCommand& command, const PolicyAnswer& answer,
           const std::vector<LeftOpen>& open) {
  const PolicyQuestion& question = command.question;
  const std::string what = question.verb + (question.region.name.empty() ? "" : " " + question.region.name);
  if (answer.refusal) {
    std::cout << "refused: " << what << " by " << answer.user << ": " << answer.refusal->what() << '\n';
    const std::string remedy = answer.refusal->detail("remedy");
    if (!remedy.empty()) std::cout << "allowed with: " << remedy << '\n';
    const std::string because = answer.refusal->detail("because");
    if (!because.empty()) std::cout << "because " << because << '\n';
  } else {
    std::cout << "allowed: " << what;
    if (answer.judged && !answer.judged->pool.empty()) std::cout << " in pool " << answer.judged->pool;
    std::cout << " by " << answer.user;
    if (!answer.rule.empty()) std::cout << ", as rule " << answer.rule << " says";
    std::cout << '\n';
    if (!answer.elsewhere.empty()) std::cout << "but " << answer.elsewhere << '\n';
  }
  if (!open.empty()) std::cout << "left open, and taken as:\n";
  for (const LeftOpen& one : open) {
    std::cout << "  " << one.option << std::string(one.option.size() < 12 ? 12 - one.option.size() : 1, ' ')
              << one.taken << (one.taken.empty() ? "(" : " (") << one.why << ")\n";
  }
  if (answer.rules.empty())
    std::cout << "no rule in " << answer.policy << " is about " << answer.user << '\n';
  if (!answer.rules.empty()) std::cout << "rules about " << answer.user << ":\n";
  for (const RuleSaid& rule : answer.rules) {
    std::cout << "  " << rule.place << (rule.denies ? " deny  " : " allow ") << rule.subject
              << (rule.applies ? ": applies" : ": does not apply, " + rule.why) << '\n';
  }
  if (answer.more > 0) std::cout << "  and " << answer.more << " more that do not apply\n";
}

}  // namespace

int perform(const Common& common, const PolicyExplainCommand& command) {
  const PolicyAnswer answer = command.ask_broker ? by_broker(common, command) : by_file(command);
  const std::vector<LeftOpen> open = left_open(command, answer);
  if (common.json) {
    std::cout << json(command.question, answer, open) << '\n';
  } else {
    print(command, answer, open);
  }
  return answer.refusal ? 1 : 0;
}

}  // namespace mapcap::cli
