// Whatever a policy file says, it is refused with a position or gives a policy whose answers agree with each
// other.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "policy/explain.h"
#include "policy/load/loader.h"

namespace {

using namespace mapcap;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "policy_fuzz: %s\n", what);
  std::abort();
}

/// Nobody of this machine: names of one letter are known.
policy::Accounts accounts() {
  const auto id_of = [](const std::string& name) -> std::optional<std::uint32_t> {
    if (name.size() != 1) return std::nullopt;
    return static_cast<unsigned char>(name[0]);
  };
  return {id_of, id_of};
}

void ask(const policy::Policy& policy, const policy::Subject& subject) {
  for (std::size_t i = 0; i < policy::kVerbs; ++i) {
    policy::Action action;
    action.verb = static_cast<policy::Verb>(i);
    action.name = i % 2 == 0 ? "a/b" : "";
    action.pool = policy.pools().front().name;
    action.rights = Access::read_write;
    action.lifetime = Lifetime{LifetimeKind::ttl, std::chrono::seconds(60)};
    action.size = ByteCount{1U << 20U};
    const bool allowed = policy.authorize(subject, action).has_value();
    require(allowed == policy.allows(subject, action), "authorize and allows disagree");
    PolicyQuestion asked;
    asked.region.name = "a/b";
    const policy::Existing region{asked.region.name, action.pool};
    const policy::Wish wish{action.verb, Access::read_only};
    const bool judged = policy::judge(policy, subject, region, wish).has_value();
    const policy::Question question{action.verb, asked, {}, region};
    if (!policy::nameless(action.verb) && action.verb != policy::Verb::create)
      require(judged == !policy::explain(policy, subject, question).refusal, "judge and explain disagree");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);  // SAFETY: bytes as chars
  const auto loaded = policy::load_text(text, "f", accounts());
  if (!loaded) {
    require(loaded.error().code == ErrorCode::invalid, "refused as something else than invalid");
    require(loaded.error().sentence.starts_with("f:"), "refused without a position");
    return 0;
  }
  ask(*loaded.value(), policy::Subject::for_explanation(97, 98, {99}, "a"));
  ask(*loaded.value(), policy::Subject::for_explanation(0, 0, {}, ""));
  return 0;
}
