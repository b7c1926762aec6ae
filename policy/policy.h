// Decides, never acts: an immutable snapshot of one policy file.
//
// Default deny; an explicit deny wins over every allow; among allows the first in the file's order gives the
// permit. A rule speaks of an action when its subject is meant and everything it lists contains what the
// action asks for. What a rule does not list is not restricted, with six refinements:
//
//  - A rule that lists names or pools is about regions. It speaks of verbs that are about none (`pools`,
//    `quota`, `quota-set`, `clone`, `shutdown`, `reload`, `policy`, `endpoint`) only when it lists that verb, so that
//    allowing everything under a prefix does not allow setting quotas. A deny that does list it denies it, whatever else
//    it lists.
//  - `quota-set`, `shutdown`, `reload` and `policy` are the administrator's (Subject::administrator); to others an allow
//    gives them only when it lists them.
//  - `list` without a name asks whether any name may be listed: an allow speaks of it whatever its names, a deny only
//    without names. Each region of the answer is then judged by its own name.
//  - A deny about a user or a group is about the uids as well that /etc/subuid lends to him or its members.
//  - max_ttl without lifetimes excludes `persistent`: a maximum that a region which never ends would pass is
//    none.
//  - published = "required" bounds what open opens, and says nothing of the other verbs: whoever makes and fills a
//    region has it before it is published.
//
// Nothing is open that is or will be: a create is judged by all that it leaves open as well (plan.h), a
// region that exists by what it is. max_ttl and max_size bound what create and renew make, and say nothing of
// a region that exists. What makes no sense with a verb (the rights of a create without a grant) restricts no
// allow; a deny that lists it does not apply, unless the verb is about no region. A region's mode is not judged
// here, but with it in judge.h.
//
// An endpoint (endpoint.h) may do what its record says and its maker may do, judged as the maker; rules about
// endpoints take from that, and can give nothing.
//
// Cost: rules are found by their subject, and by what stands in their names before the first wildcard (rule_index.h), so
// that rules about others and about other names cost nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "policy/model.h"
#include "policy/rule_index.h"
#include "policy/subject.h"

namespace mapcap::policy {

/// What somebody wants to do. Absent: not asked for, or it makes no sense with the verb.
struct Action {
  Verb verb = Verb::open;
  std::string_view name;  ///< The region's; empty for verbs without one.
  std::string_view pool;  ///< Empty: not known (yet), or none.
  std::optional<Access> rights;
  std::optional<CacheMode> cache;
  std::optional<Lifetime> lifetime;
  std::optional<ByteCount> size;
  std::optional<SealKind> seal;
  bool published = false;  ///< The region is. What is not known to be counts as not.
};

/// Of a verb that is about no region.
inline Action action_of(Verb verb) {
  Action action;
  action.verb = verb;
  return action;
}

/// The properties of an action in the order in which a rule is held against them. A later one is a closer
/// miss.
enum class Part : std::uint8_t {
  subject,
  verb,
  name,
  pool,
  rights,
  cache,
  lifetime,
  ttl,
  size,
  seal,
  published,
  none,
};

/// The rule that allows, and up to where.
struct Permit {
  std::string rule;  ///< "policy.toml:12"
  std::optional<std::chrono::nanoseconds> max_ttl;
  std::optional<ByteCount> max_size;
};

/// May be shared between threads: nothing in it changes.
class Policy {
 public:
  explicit Policy(Settings settings);

  [[nodiscard]] const BrokerSettings& broker() const { return settings_.broker; }
  /// In the file's order.
  [[nodiscard]] const std::vector<PoolSettings>& pools() const { return settings_.pools; }
  /// Errors: `not_found`, with the names that there are.
  [[nodiscard]] Result<const PoolSettings*> find_pool(const std::string& name) const {
    return policy::find_pool(settings_.pools, name);
  }
  [[nodiscard]] const std::vector<Rule>& rules() const { return settings_.rules; }
  [[nodiscard]] const std::vector<QuotaRule>& quotas() const { return settings_.quotas; }
  [[nodiscard]] const std::string& source() const { return settings_.source; }

  /// Errors: `denied`, naming the rule that denies, or that none allows and which came closest.
  [[nodiscard]] Result<Permit> authorize(const Subject& subject, const Action& action) const;

  /// The same answer without the sentence: for filtering lists.
  [[nodiscard]] bool allows(const Subject& subject, const Action& action) const;

  /// How far a refused action came: the furthest that one of the allows speaks of it, `none` when only a deny
  /// is in the way.
  [[nodiscard]] Part closest_part(const Subject& subject, const Action& action) const;
  /// The allows that came so far, at most three, in the file's order. Empty when a deny is in the way.
  [[nodiscard]] std::vector<const Rule*> closest_rules(const Subject& subject, const Action& action) const;

  /// Every rule about somebody, or those of them that are meant, in the file's order.
  [[nodiscard]] std::vector<const Rule*> rules_for(const Subject& subject,
                                                   RuleIndex::Of which = RuleIndex::Of::all) const;

 private:
  struct Verdict {
    const Rule* deny = nullptr;
    const Rule* allow = nullptr;
    Part beyond = Part::none;  ///< Of an endpoint: what its own record does not say.
  };
  [[nodiscard]] Verdict judge(const Subject& subject, const Action& action) const;
  /// The allows about the subject that come closest, at most kClosestShown, the closest first.
  [[nodiscard]] std::vector<std::pair<Part, const Rule*>> misses(const Subject& subject,
                                                                 const Action& action) const;
  [[nodiscard]] std::string closest(const Subject& subject, const Action& action) const;

  Settings settings_;
  RuleIndex index_;
};

}  // namespace mapcap::policy
