#include "policy/diff.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/words.h"
#include "policy/accounts.h"
#include "policy/differing.h"
#include "policy/in_mind.h"
#include "policy/judge.h"
#include "policy/place.h"
#include "policy/plan.h"
#include "policy/subordinates.h"

namespace mapcap::policy {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t kMostNames = 1000;

using Offers = std::vector<Offer>;

/// The pools of either that are not in both, or make other regions there.
std::set<std::string> pools_that_differ(const Offers& before, const Offers& after) {
  const auto in = [](const Offers& offers, const Offer& one) {
    const auto same = [&](const Offer& other) {
      constexpr std::uint64_t odd = kPageSize + 1;
      return other.name == one.name && other.seals == one.seals && other.cache_modes == one.cache_modes &&
             other.size_for({odd}, {}).value() == one.size_for({odd}, {}).value();
    };
    return std::any_of(offers.begin(), offers.end(), same);
  };
  std::set<std::string> names;
  for (const Offer& one : before) {
    if (!in(after, one)) names.insert(one.name);
  }
  for (const Offer& one : after) {
    if (!in(before, one)) names.insert(one.name);
  }
  return names;
}

struct Two {
  Two(const Policy& was, const Policy& is, std::span<const RegionInfo> live)
      : before(was),
        after(is),
        differing(was, is),
        everybodys(was, is),
        offers_before(offers_of(was)),
        offers_after(offers_of(is)),
        pools_apart(pools_that_differ(offers_before, offers_after)) {
    for (const RegionInfo& region : live) live_names.push_back(region.name);
    for (const Offers* offers : {&offers_before, &offers_after}) {
      for (const Offer& offer : *offers) pools.insert(offer.name);
    }
  }
  Two(const Two&) = delete;
  Two& operator=(const Two&) = delete;

  const Policy& before;
  const Policy& after;
  Differing differing;
  Everybodys everybodys;
  Offers offers_before;
  Offers offers_after;
  std::set<std::string> pools;  ///< Of either.
  std::set<std::string> pools_apart;
  std::vector<std::string> live_names;
  NamesApart names_apart{differing, everybodys.names};
  mutable std::uint64_t questions = 0;
};

/// Somebody about whom the policies differ.
class Concerned {
 public:
  Concerned(const Two& two, const Person& person) : two_(two), person_(person) {}

  [[nodiscard]] const Subject& subject() const { return person_.subject; }
  [[nodiscard]] const std::string& called() const { return person_.called; }
  [[nodiscard]] const Two& two() const { return two_; }

  /// The rule that makes the difference, of two answers of which one is a permit.
  [[nodiscard]] std::string why(const Result<Permit>& was, const Result<Permit>& is) const {
    if (is) {
      const std::string denied = rule_of(was);
      return denied.empty() ? "rule " + is.value().rule : "rule " + denied + " no longer denies";
    }
    const std::string denied = rule_of(is);
    if (!denied.empty()) return "rule " + denied + " denies";
    const std::string& gave = was.value().rule;
    return "rule " + gave + (two_.differing.gone(gave, subject()) ? " gone" : " does not give it any more");
  }

 private:
  static std::string rule_of(const Result<Permit>& refused) {
    for (const Detail& detail : refused.error().details) {
      if (detail.key == "rule") return detail.value;
    }
    return "";
  }

  const Two& two_;
  const Person& person_;
};

/// What changes of one name, joined where the reason is the same.
class OfOneName {
 public:
  OfOneName(const Concerned& who, std::string name, std::string pool)
      : who_(who), name_(std::move(name)), pool_(std::move(pool)) {}

  /// `answer`: what a policy says, with its sentence.
  template <typename Answer>
  void compare(const std::string& what, bool was, bool is, Answer answer) {
    ++who_.two().questions;
    if (was == is) return;
    const Two& two = who_.two();
    add(what, is, who_.why(answer(two.before, two.offers_before), answer(two.after, two.offers_after)));
  }
  void compare(const std::string& what, const Action& action) {
    const Two& two = who_.two();
    compare(what, two.before.allows(who_.subject(), action), two.after.allows(who_.subject(), action),
            [&](const Policy& policy, const Offers&) { return policy.authorize(who_.subject(), action); });
  }
  void compare(const std::string& what, const Existing& region, const Wish& wish) {
    const Two& two = who_.two();
    const Result<Permit> was = judge(two.before, who_.subject(), region, wish);
    const Result<Permit> is = judge(two.after, who_.subject(), region, wish);
    compare(what, was.has_value(), is.has_value(),
            [&](const Policy& policy, const Offers&) { return &policy == &two.before ? was : is; });
  }
  void add(const std::string& what, bool gains, const std::string& why) {
    std::string& words = found_[{gains, why}];
    words += (words.empty() ? "" : ", ") + what;
  }
  void tell(std::vector<Difference>& to) const {
    for (const auto& [key, words] : found_)
      to.push_back({who_.called(), key.first, words, name_, pool_, key.second});
  }

 private:
  const Concerned& who_;
  std::string name_;
  std::string pool_;
  std::map<std::pair<bool, std::string>, std::string> found_;
};

struct Wanted {
  const char* word;
  Wish wish;
};

std::vector<Wanted> wishes_for(const std::optional<Lifetime>& lifetime) {
  std::vector<Wanted> wishes{{"list", {Verb::list}},
                             {"open ro", {Verb::open, Access::read_only}},
                             {"open rw", {Verb::open, Access::read_write}},
                             {"show", {Verb::show}},
                             {"revoke", {Verb::revoke}}};
  if (!lifetime) wishes.push_back({"renew", {Verb::renew}});
  if (lifetime && lifetime->kind == LifetimeKind::ttl)
    wishes.push_back({"renew", {Verb::renew, {}, lifetime->ttl}});
  return wishes;
}

void compare_live(const Concerned& who, const NamesApart& apart, std::span<const RegionInfo> live,
                  std::vector<Difference>& found) {
  for (const std::size_t index : apart.of(who.subject())) {
    const RegionInfo& region = live[index];
    const Existing existing{region.name,     region.pool,
                            region.owner,    region.group,
                            region.mode,     ByteCount{region.size},
                            region.seal,     region.cache.effective,
                            region.lifetime, region.published_unix.has_value()};
    OfOneName one(who, region.name, "");
    for (const Wanted& wanted : wishes_for(region.lifetime)) one.compare(wanted.word, existing, wanted.wish);
    one.tell(found);
  }
}

/// Names that his rules have in mind, if the answers about them may differ: where a pool does, that is all of them.
std::set<std::string> names_for(const Concerned& who) {
  const Two& two = who.two();
  const bool all = !two.pools_apart.empty();
  std::set<std::string> names;
  const auto add = [&](const std::string& name) {
    if (names.size() < kMostNames) names.insert(name);
  };
  const auto add_like = [&](const std::string& glob) {
    const std::string name = name_like(glob, who.subject());
    if (!name.empty() && (all || two.differing.speaks_of(who.subject(), name))) add(name);
  };
  if (all) {
    for (const std::string& name : two.everybodys.names) add(name);
  } else {
    for (const std::size_t index : two.names_apart.of(who.subject())) add(two.everybodys.names[index]);
  }
  for (const std::string& glob : two.everybodys.globs_with_the_asker) add_like(glob);
  for (const Policy* policy : {&two.before, &two.after}) {
    for (const Rule* rule : policy->rules_for(who.subject(), RuleIndex::Of::him)) {
      if (rule->names.empty()) add_like(kAnyName);
      for (const std::string& glob : rule->names) add_like(glob);
    }
  }
  return names;
}

Steps steps_for(const Concerned& who) {
  Steps steps = who.two().everybodys.steps;
  for (const Policy* policy : {&who.two().before, &who.two().after}) {
    for (const Rule* rule : policy->rules_for(who.subject(), RuleIndex::Of::him)) steps.add(*rule);
  }
  return steps;
}

// ---- how far creates go

struct Reach {
  std::map<LifetimeKind, bool> kinds;
  std::chrono::nanoseconds ttl{0};
  ByteCount size{};
};

schema::Create create_of(const std::string& name, const std::string& pool, const Lifetime& lifetime,
                         std::uint64_t size) {
  schema::Create ask;
  ask.name = name;
  ask.pool = pool;
  ask.lifetime = lifetime;
  ask.size = size;
  return ask;
}

Lifetime shortest(LifetimeKind kind) {
  return {kind, kind == LifetimeKind::ttl ? 1s : 0s};
}

Reach reach_of(const Policy& policy, const Offers& offers, const Concerned& who, const std::string& name,
               const std::string& pool, const Steps& steps) {
  const auto may = [&](const Lifetime& lifetime, std::uint64_t size) {
    ++who.two().questions;
    return may_create(policy, who.subject(), create_of(name, pool, lifetime, size), offers);
  };
  Reach reach;
  const std::uint64_t least = *steps.sizes.begin();
  std::optional<Lifetime> possible;
  for (const LifetimeKind kind : {LifetimeKind::connection, LifetimeKind::ttl, LifetimeKind::persistent}) {
    reach.kinds[kind] = may(shortest(kind), least);
    if (reach.kinds[kind]) possible = shortest(kind);
  }
  if (!possible) return reach;
  for (const std::chrono::nanoseconds ttl : steps.ttls) {
    if (may({LifetimeKind::ttl, ttl}, least)) reach.ttl = std::max(reach.ttl, ttl);
  }
  for (const std::uint64_t size : steps.sizes) {
    if (may(*possible, size)) reach.size = std::max(reach.size, ByteCount{size});
  }
  return reach;
}

void compare_creates(const Concerned& who, const std::string& name, const std::string& pool,
                     const Steps& steps, OfOneName& one) {
  const Two& two = who.two();
  const Reach was = reach_of(two.before, two.offers_before, who, name, pool, steps);
  const Reach is = reach_of(two.after, two.offers_after, who, name, pool, steps);
  const auto could = [](const Reach& reach) {
    return std::any_of(reach.kinds.begin(), reach.kinds.end(), [](const auto& kind) { return kind.second; });
  };
  for (const auto& [of_kind, before] : was.kinds) {
    const schema::Create ask = create_of(name, pool, shortest(of_kind), *steps.sizes.begin());
    one.compare("create " + std::string(to_string(of_kind)), before, is.kinds.at(of_kind),
                [&](const Policy& policy, const Offers& offers) -> Result<Permit> {
                  MAPCAP_TRY(Plan plan, plan_create(policy, who.subject(), ask, offers));
                  return std::move(plan.permit);
                });
  }
  if (!could(was) || !could(is)) return;
  if (was.ttl != is.ttl && was.ttl > 0s && is.ttl > 0s) {
    one.add("create with a ttl above " + format_duration_exact(std::min(was.ttl, is.ttl)), is.ttl > was.ttl,
            "max_ttl");
  }
  if (was.size != is.size)
    one.add("create of more than " + format_bytes(std::min(was.size, is.size)), is.size > was.size,
            "max_size");
}

/// What is the same in every pool is said once.
void tell_of_pools(std::vector<std::vector<Difference>> by_pool, std::vector<Difference>& found) {
  const auto without_pool = [](Difference one) {
    one.pool.clear();
    return one;
  };
  for (const Difference& one : by_pool.front()) {
    const bool everywhere = std::all_of(by_pool.begin(), by_pool.end(), [&](const auto& others) {
      return std::any_of(others.begin(), others.end(),
                         [&](const Difference& other) { return without_pool(other) == without_pool(one); });
    });
    if (!everywhere) continue;
    const Difference same = without_pool(one);
    for (auto& others : by_pool)
      std::erase_if(others, [&](const Difference& other) { return without_pool(other) == same; });
    found.push_back(same);
    tell_of_pools(std::move(by_pool), found);
    return;
  }
  for (const auto& others : by_pool) found.insert(found.end(), others.begin(), others.end());
}

void compare_names(const Concerned& who, bool regions_known, std::vector<Difference>& found) {
  const Steps steps = steps_for(who);
  for (const std::string& name : names_for(who)) {
    std::vector<std::vector<Difference>> by_pool;
    for (const std::string& pool : who.two().pools) {
      OfOneName one(who, name, pool);
      compare_creates(who, name, pool, steps, one);
      for (const Wanted& wanted : wishes_for(std::nullopt)) {
        if (!regions_known) one.compare(wanted.word, action_on({name, pool}, wanted.wish));
      }
      one.tell(by_pool.emplace_back());
    }
    if (!by_pool.empty()) tell_of_pools(std::move(by_pool), found);
  }
}

void compare_nameless(const Concerned& who, std::vector<Difference>& found) {
  OfOneName one(who, "", "");
  for (std::size_t i = 0; i < kVerbs; ++i) {
    const Verb verb = static_cast<Verb>(i);
    if (!nameless(verb)) continue;
    Action action = action_of(verb);
    if (verb == Verb::clone) action.rights = Access::read_only;
    one.compare(std::string(to_string(verb)), action);
  }
  one.tell(found);
}

}  // namespace

std::vector<Difference> differences(const Policy& before, const Policy& after, std::span<const Person> people,
                                    std::span<const RegionInfo> live, DiffWork* work) {
  std::vector<Difference> found;
  const Two two(before, after, live);
  const NamesApart live_apart(two.differing, two.live_names);
  for (const Person& person : people) {
    if (!two.differing.concerns(person.subject)) continue;
    const Concerned who(two, person);
    compare_live(who, live_apart, live, found);
    compare_names(who, !live.empty(), found);
    if (two.differing.speaks_of_no_region(person.subject)) compare_nameless(who, found);
  }
  if (work != nullptr) work->questions = two.questions;
  return found;
}

namespace {

Subject user(std::uint32_t uid, const Subordinates& lent) {
  const std::optional<Account> account = find_account(uid);
  Subject subject = account ? Subject::for_explanation(uid, account->gid, groups_of(*account), account->name)
                            : Subject::for_explanation(uid, uid, {}, "");
  subject.set_lender(lent.lender_of(uid));
  return subject;
}

/// Whom a rule about a place means, being there.
void add_placed(const SubjectMatch& match, const Subordinates& lent, std::vector<Person>& people) {
  PeerLabel label;
  label.cgroup = some_cgroup(match);
  const auto add = [&](Subject subject) {
    subject.set_label(label);
    people.push_back({match.text, std::move(subject)});
  };
  for (const std::uint32_t uid : match.uids) add(user(uid, lent));
  for (const std::uint32_t gid : match.gids) add(somebody({gid}));
  if (match.administrator) add(user(0, lent));
  if (match.any) add(somebody({}));
}

}  // namespace

std::vector<Person> people_of(const Policy& before, const Policy& after, std::span<const RegionInfo> live) {
  std::set<std::uint32_t> uids;
  std::map<std::uint32_t, std::string> groups;
  bool everybody = false;
  bool administrator = false;
  std::map<std::string, const SubjectMatch*> placed;
  for (const Policy* policy : {&before, &after}) {
    for (const Rule& rule : policy->rules()) {
      if (rule.subject.placed()) {
        placed.emplace(rule.subject.text, &rule.subject);
        continue;
      }
      uids.insert(rule.subject.uids.begin(), rule.subject.uids.end());
      for (const std::uint32_t gid : rule.subject.gids) groups.emplace(gid, rule.subject.text);
      everybody = everybody || rule.subject.any;
      administrator = administrator || rule.subject.administrator;
    }
  }
  for (const RegionInfo& region : live) uids.insert(region.owner);
  if (administrator) uids.insert(0);
  std::vector<Person> people;
  const Subordinates lent = Subordinates::of_machine();
  for (const std::uint32_t uid : uids) {
    Subject subject = user(uid, lent);
    people.push_back({subject.user(), std::move(subject)});
  }
  for (const auto& [gid, text] : groups) people.push_back({"members of " + text, somebody({gid})});
  if (everybody) people.push_back({"anybody else", somebody({})});
  for (const auto& [text, match] : placed) add_placed(*match, lent, people);
  return people;
}

}  // namespace mapcap::policy
