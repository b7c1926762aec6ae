#include "policy/diff.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/glob.h"
#include "base/words.h"
#include "policy/accounts.h"
#include "policy/changes.h"
#include "policy/judge.h"
#include "policy/match.h"
#include "policy/plan.h"
#include "schema/region_name.h"

namespace mapcap::policy {

using namespace std::chrono_literals;

namespace {

/// Nobody's uid: whoever is meant by a rule about a group, or about everybody.
constexpr std::uint32_t kSomebody = 0xFFFFFFFD;
constexpr const char* kNameOfSomebody = "SOMEBODY";
constexpr std::size_t kMostNames = 1000;

struct Two {
  const Policy& before;
  const Policy& after;
};

std::multiset<std::string> said_about(const Policy& policy, const Subject& subject) {
  std::multiset<std::string> said;
  for (const Rule* rule : policy.rules_for(subject)) said.insert(in_words(*rule));
  return said;
}

/// Somebody about whom the policies differ.
class Concerned {
 public:
  Concerned(const Two& two, const Person& person)
      : two_(two),
        person_(person),
        old_(said_about(two.before, person.subject)),
        new_(said_about(two.after, person.subject)) {}

  [[nodiscard]] bool at_all() const { return old_ != new_; }
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
    for (const Rule* rule : two_.before.rules_for(person_.subject)) {
      if (rule->where == gave && !new_.contains(in_words(*rule))) return "rule " + gave + " gone";
    }
    return "rule " + gave + " does not give it any more";
  }

 private:
  static std::string rule_of(const Result<Permit>& refused) {
    for (const Detail& detail : refused.error().details) {
      if (detail.key == "rule") return detail.value;
    }
    return "";
  }

  Two two_;
  const Person& person_;
  std::multiset<std::string> old_;
  std::multiset<std::string> new_;
};

/// What changes of one name, joined where the reason is the same.
class OfOneName {
 public:
  OfOneName(const Concerned& who, std::string name, std::string pool)
      : who_(who), name_(std::move(name)), pool_(std::move(pool)) {}

  void compare(const std::string& what, const Result<Permit>& was, const Result<Permit>& is) {
    if (was.has_value() != is.has_value()) add(what, is.has_value(), who_.why(was, is));
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

void compare_live(const Concerned& who, std::span<const RegionInfo> live, std::vector<Difference>& found) {
  for (const RegionInfo& region : live) {
    const Existing existing{region.name,     region.pool,
                            region.owner,    region.group,
                            region.mode,     ByteCount{region.size},
                            region.seal,     region.cache.effective,
                            region.lifetime, region.published_unix.has_value()};
    OfOneName one(who, region.name, "");
    for (const Wanted& wanted : wishes_for(region.lifetime)) {
      one.compare(wanted.word, judge(who.two().before, who.subject(), existing, wanted.wish),
                  judge(who.two().after, who.subject(), existing, wanted.wish));
    }
    one.tell(found);
  }
}

// ---- names that the rules have in mind

/// A name that the glob matches, for this person; empty: none was found.
std::string name_like(std::string glob, const Subject& subject) {
  const auto put = [&glob](const std::string& what, const std::string& with) {
    for (std::size_t at = 0; (at = glob.find(what, at)) != std::string::npos; at += with.size())
      glob.replace(at, what.size(), with);
  };
  put("{user}", subject.user());
  put("{uid}", std::to_string(subject.uid()));
  std::string name = glob;
  name.erase(std::unique(name.begin(), name.end(), [](char a, char b) { return a == '*' && b == '*'; }),
             name.end());
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '*' || c == '?'; }, 'x');
  return schema::RegionName::parse(name) && glob_match(glob, name) ? name : "";
}

std::set<std::string> names_for(const Concerned& who) {
  std::set<std::string> names;
  for (const Policy* policy : {&who.two().before, &who.two().after}) {
    for (const Rule* rule : policy->rules_for(who.subject())) {
      if (rule->names.empty() && names.size() < kMostNames) names.insert("any/name");
      for (const std::string& glob : rule->names) {
        const std::string name = name_like(glob, who.subject());
        if (!name.empty() && names.size() < kMostNames) names.insert(name);
      }
    }
  }
  return names;
}

/// How far creates of a name in a pool go; each answer is that of the furthest that is allowed.
struct Reach {
  std::map<LifetimeKind, Result<Permit>> kinds;
  std::chrono::nanoseconds ttl{0};
  ByteCount size{};
};

struct Steps {
  std::set<std::chrono::nanoseconds> ttls{1s, kMaxDuration};
  std::set<std::uint64_t> sizes{kPageSize, std::uint64_t{1} << 62U};
};

/// Where one of the rules about somebody ends.
Steps steps_for(const Concerned& who) {
  Steps steps;
  for (const Policy* policy : {&who.two().before, &who.two().after}) {
    for (const Rule* rule : policy->rules_for(who.subject())) {
      if (rule->max_ttl) steps.ttls.insert(*rule->max_ttl);
      if (rule->max_size) steps.sizes.insert(std::max<std::uint64_t>(rule->max_size->value, 1));
    }
  }
  return steps;
}

Reach reach_of(const Policy& policy, const Subject& subject, const std::string& name, const std::string& pool,
               const Steps& steps) {
  const std::vector<Offer> offers = offers_of(policy);
  schema::Create ask;
  ask.name = name;
  ask.pool = pool;
  const auto asked = [&](Lifetime lifetime, ByteCount size) -> Result<Permit> {
    ask.lifetime = lifetime;
    ask.size = size.value;
    MAPCAP_TRY(Plan plan, plan_create(policy, subject, ask, offers));
    return std::move(plan.permit);
  };
  Reach reach;
  const ByteCount least{*steps.sizes.begin()};
  std::optional<Lifetime> possible;
  for (const LifetimeKind kind : {LifetimeKind::connection, LifetimeKind::ttl, LifetimeKind::persistent}) {
    const Lifetime lifetime{kind, kind == LifetimeKind::ttl ? 1s : 0s};
    const auto put = reach.kinds.emplace(kind, asked(lifetime, least)).first;
    if (put->second) possible = lifetime;
  }
  if (!possible) return reach;
  for (const std::chrono::nanoseconds ttl : steps.ttls) {
    if (asked({LifetimeKind::ttl, ttl}, least)) reach.ttl = std::max(reach.ttl, ttl);
  }
  for (const std::uint64_t size : steps.sizes) {
    if (asked(*possible, {size})) reach.size = std::max(reach.size, ByteCount{size});
  }
  return reach;
}

void compare_creates(const Concerned& who, const std::string& name, const std::string& pool,
                     const Steps& steps, OfOneName& one) {
  const Reach was = reach_of(who.two().before, who.subject(), name, pool, steps);
  const Reach is = reach_of(who.two().after, who.subject(), name, pool, steps);
  const auto could = [](const Reach& reach) {
    return std::any_of(reach.kinds.begin(), reach.kinds.end(),
                       [](const auto& kind) { return kind.second.has_value(); });
  };
  for (const auto& [kind, before] : was.kinds) {
    one.compare("create " + std::string(to_string(kind)), before, is.kinds.at(kind));
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

/// The names of the pools of either.
std::set<std::string> pools_of(const Two& two) {
  std::set<std::string> names;
  for (const Policy* policy : {&two.before, &two.after}) {
    for (const PoolSettings& pool : policy->pools()) names.insert(pool.name);
  }
  return names;
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
    for (const std::string& pool : pools_of(who.two())) {
      OfOneName one(who, name, pool);
      compare_creates(who, name, pool, steps, one);
      for (const Wanted& wanted : wishes_for(std::nullopt)) {
        if (regions_known) break;
        const Action action = action_on({name, pool}, wanted.wish);
        one.compare(wanted.word, who.two().before.authorize(who.subject(), action),
                    who.two().after.authorize(who.subject(), action));
      }
      one.tell(by_pool.emplace_back());
    }
    tell_of_pools(std::move(by_pool), found);
  }
}

void compare_nameless(const Concerned& who, std::vector<Difference>& found) {
  OfOneName one(who, "", "");
  for (std::size_t i = 0; i < kVerbs; ++i) {
    const Verb verb = static_cast<Verb>(i);
    if (!nameless(verb)) continue;
    Action action;
    action.verb = verb;
    if (verb == Verb::clone) action.rights = Access::read_only;
    one.compare(std::string(to_string(verb)), who.two().before.authorize(who.subject(), action),
                who.two().after.authorize(who.subject(), action));
  }
  one.tell(found);
}

/// The rules of one that the other has not, or not as often. What they say has their subject in it.
void add_what_differs(const Policy& policy, const std::multiset<std::string>& others,
                      std::vector<const Rule*>& found) {
  std::map<std::string, std::size_t> had;
  for (const Rule& rule : policy.rules()) {
    const std::string words = in_words(rule);
    if (++had[words] > others.count(words)) found.push_back(&rule);
  }
}

std::multiset<std::string> said(const Policy& policy) {
  std::multiset<std::string> words;
  for (const Rule& rule : policy.rules()) words.insert(in_words(rule));
  return words;
}

bool about(const Rule& rule, const Subject& subject) {
  return first_mismatch(rule, subject, Action{}) != Part::subject;
}

}  // namespace

std::vector<Difference> differences(const Policy& before, const Policy& after, std::span<const Person> people,
                                    std::span<const RegionInfo> live) {
  std::vector<Difference> found;
  std::vector<const Rule*> differing;
  add_what_differs(before, said(after), differing);
  add_what_differs(after, said(before), differing);
  for (const Person& person : people) {
    // Of thousands of people most are those about whom nothing has changed.
    const bool concerned = std::any_of(differing.begin(), differing.end(),
                                       [&](const Rule* rule) { return about(*rule, person.subject); });
    if (!concerned) continue;
    const Concerned who({before, after}, person);
    if (!who.at_all()) continue;
    compare_live(who, live, found);
    compare_names(who, !live.empty(), found);
    compare_nameless(who, found);
  }
  return found;
}

std::vector<Person> people_of(const Policy& before, const Policy& after, std::span<const RegionInfo> live) {
  std::set<std::uint32_t> uids;
  std::map<std::uint32_t, std::string> groups;
  bool everybody = false;
  bool administrator = false;
  for (const Policy* policy : {&before, &after}) {
    for (const Rule& rule : policy->rules()) {
      uids.insert(rule.subject.uids.begin(), rule.subject.uids.end());
      for (const std::uint32_t gid : rule.subject.gids) groups.emplace(gid, rule.subject.text);
      everybody = everybody || rule.subject.any;
      administrator = administrator || rule.subject.administrator;
    }
  }
  for (const RegionInfo& region : live) uids.insert(region.owner);
  if (administrator) uids.insert(0);
  std::vector<Person> people;
  for (const std::uint32_t uid : uids) {
    Result<Subject> subject = Subject::for_explanation(std::to_string(uid));
    if (subject) people.push_back({subject.value().user(), std::move(subject.value())});
  }
  for (const auto& [gid, text] : groups)
    people.push_back(
        {"members of " + text, Subject::for_explanation(kSomebody, kSomebody, {gid}, kNameOfSomebody)});
  if (everybody)
    people.push_back({"anybody else", Subject::for_explanation(kSomebody, kSomebody, {}, kNameOfSomebody)});
  return people;
}

}  // namespace mapcap::policy
