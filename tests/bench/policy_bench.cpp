// What a policy of 10,000 rules costs beside one of 10: to load (and so to check), to judge a request that is allowed,
// that is denied and that no rule is about, to plan a create, and to compare with the same file but for one user's rule, or
// for one about everybody. Flat is what is wanted of all but the first and the last two: their floors are the text, and the
// people to whom something is to be told.
//
// Pin it: taskset -c 0 policy_bench. Quote ratios of medians (--benchmark_repetitions=9).
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

#include "policy/diff.h"
#include "policy/load/loader.h"
#include "policy/plan.h"

namespace mapcap::policy {
namespace {

/// Teams as a large site has them: a third of the rules about everybody, about a user and about a group; every tenth
/// denies something.
std::string text_of(std::int64_t rules, const std::string& first_user = "team-1",
                    const std::string& everybodys = "team-3") {
  std::string text =
      "[pool.dram]\nbacking = \"memory\"\ncapacity = \"1G\"\nconfinement = \"sealed\"\n"
      "[[rule]]\nadministrator = true\n";
  for (std::int64_t i = 0; i < rules; ++i) {
    const std::string number = std::to_string(i);
    const std::string team = i == 1 ? first_user : i == 3 ? everybodys : "team-" + number;
    text += "[[rule]]\n";
    text += i % 3 == 0   ? "any = true\n"
            : i % 3 == 1 ? "user = " + std::to_string(2000 + i) + "\n"
                         : "group = " + std::to_string(2000 + i) + "\n";
    text += i % 10 == 9
                ? "effect = \"deny\"\nnames = [\"" + team + "/secret/**\"]\n"
                : "names = [\"" + team + "/**\", \"shared/" + number + "/*\"]\n" +
                      "verbs = [\"create\", \"open\", \"list\", \"show\", \"revoke\"]\nmax_ttl = \"24h\"\n";
  }
  return text;
}

Accounts no_names() {
  const auto none = [](const std::string&) { return std::optional<std::uint32_t>(); };
  return Accounts{none, none};
}

std::shared_ptr<const Policy> load(const std::string& text) {
  auto loaded = load_text(text, "bench.toml", no_names());
  if (!loaded) {
    std::cerr << loaded.error().sentence << '\n';
    std::abort();
  }
  return loaded.value();
}

const Policy& policy_of(std::int64_t rules) {
  static std::map<std::int64_t, std::shared_ptr<const Policy>> policies;
  std::shared_ptr<const Policy>& policy = policies[rules];
  if (!policy) policy = load(text_of(rules));
  return *policy;
}

const Subject& somebody() {
  static const Subject kSomebody =
      Subject::for_explanation(2001, 2001, {2002, 2005, 2008, 50'000}, "somebody");
  return kSomebody;
}

void load_the_file(benchmark::State& state) {
  const std::string text = text_of(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(examine_text(text, "bench.toml", no_names()));
}

void judge(benchmark::State& state, const std::string& name) {
  const Policy& policy = policy_of(state.range(0));
  Action action;
  action.verb = Verb::open;
  action.name = name;
  action.pool = "dram";
  action.rights = Access::read_only;
  for (auto _ : state) benchmark::DoNotOptimize(policy.authorize(somebody(), action));
}

void plan(benchmark::State& state) {
  const Policy& policy = policy_of(state.range(0));
  const std::vector<Offer> offers = offers_of(policy);
  schema::Create ask;
  ask.name = "team-6/a";
  ask.size = {8000};
  ask.lifetime = {LifetimeKind::ttl, std::chrono::hours(1)};
  for (auto _ : state) benchmark::DoNotOptimize(plan_create(policy, somebody(), ask, offers));
}

void diff(benchmark::State& state) {
  const Policy& before = policy_of(state.range(0));
  const std::shared_ptr<const Policy> after = load(text_of(state.range(0), "team-of-others"));
  const std::vector<Person> people = people_of(before, *after, {});
  for (auto _ : state) benchmark::DoNotOptimize(differences(before, *after, people, {}));
}

/// Of a rule about everybody: it is told to each of the people whom the rules name.
void diff_everybody(benchmark::State& state) {
  const Policy& before = policy_of(state.range(0));
  const std::shared_ptr<const Policy> after = load(text_of(state.range(0), "team-1", "team-of-others"));
  const std::vector<Person> people = people_of(before, *after, {});
  for (auto _ : state) benchmark::DoNotOptimize(differences(before, *after, people, {}));
  state.counters["people"] = static_cast<double>(people.size());
}

[[maybe_unused]] const bool registered = [] {
  for (const std::int64_t rules : {10, 10'000}) {
    benchmark::RegisterBenchmark("load", load_the_file)->Arg(rules)->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark("judge_allowed", judge, "team-6/a")->Arg(rules);
    benchmark::RegisterBenchmark("judge_no_rule", judge, "nobody/a")->Arg(rules);
    benchmark::RegisterBenchmark("plan_create", plan)->Arg(rules);
    benchmark::RegisterBenchmark("diff", diff)->Arg(rules)->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark("diff_everybody", diff_everybody)->Arg(rules)->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace mapcap::policy

BENCHMARK_MAIN();
