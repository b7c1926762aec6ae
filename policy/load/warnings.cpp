// What a broker takes and an administrator surely did not mean.
#include <algorithm>
#include <map>
#include <tuple>

#include "policy/load/parts.h"

namespace mapcap::policy {
namespace {

template <typename T>
bool within(const std::vector<T>& narrow, const std::vector<T>& wide) {
  return std::all_of(narrow.begin(), narrow.end(),
                     [&](const T& one) { return std::find(wide.begin(), wide.end(), one) != wide.end(); });
}

// ---- one rule
// ----------------------------------------------------------------------------------------------------

bool lists(const Rule& rule, Verb verb) {
  return rule.verbs.none() || rule.verbs.test(static_cast<std::size_t>(verb));
}

/// Whether the rule speaks of nothing but such verbs.
bool only(const Rule& rule, bool (*such)(Verb)) {
  for (std::size_t i = 0; i < kVerbs; ++i) {
    if (rule.verbs.test(i) && !such(static_cast<Verb>(i))) return false;
  }
  return rule.verbs.any();
}

/// One that both matches what the other does and more, or just as much. Not every such pair is found.
bool covers(const std::string& wide, const std::string& narrow) {
  if (wide == narrow || wide == "**") return true;
  if (!wide.ends_with("/**")) return false;
  const std::string below = wide.substr(0, wide.size() - 2);
  return below.find_first_of("*?") == std::string::npos && narrow.starts_with(below);
}

void warn_of_globs(Section& section, const Rule& rule) {
  for (const Located<std::string>& glob : section.texts_again("names")) {
    const std::string& text = glob.value;
    const auto warn = [&](const std::string& what) {
      section.warning(glob.at, "names: \"" + text + "\" " + what);
    };
    if (text.find("***") != std::string::npos) warn("has three stars, which match what two do");
    std::size_t at = 0;
    while ((at = text.find("**", at)) != std::string::npos) {
      const std::size_t end = std::min(text.find_first_not_of('*', at), text.size());
      const bool within = (at > 0 && text[at - 1] != '/') || (end < text.size() && text[end] != '/');
      if (within) {
        warn("has ** within a component, where it crosses slashes too; * stays within one");
        break;
      }
      at = end;
    }
    for (const std::string user : {"{user}", "{uid}"}) {
      const std::size_t brace = text.find(user);
      if (brace == std::string::npos) continue;
      const std::size_t end = brace + user.size();
      const char before = brace == 0 ? '/' : text[brace - 1];
      const char after = end == text.size() ? '/' : text[end];
      const auto wild = [](char c) { return c == '*' || c == '?'; };
      if (wild(before) || wild(after)) {
        warn("has a wildcard beside " + user +
             ": it reaches the names of other users whose name begins or ends alike");
      } else if (before != '/' || after != '/') {
        warn("has " + user + " within a component: write it between slashes, unless names such as " +
             (before == '/' ? "" : std::string(1, before)) + "alice" +
             (after == '/' ? "" : std::string(1, after)) + " are meant");
      }
    }
    for (const std::string& other : rule.names) {
      if (other != text && covers(other, text)) {
        warn("says nothing beside \"" + other + "\"");
        break;
      }
    }
  }
}

}  // namespace

void warn_of_one_rule(Section& section, const Rule& rule) {
  warn_of_globs(section, rule);
  const auto idle = [&](std::string_view key, const std::string& why) {
    if (section.has(key)) section.warning(section.at(key), std::string(key) + " says nothing here: " + why);
  };
  if (only(rule, nameless)) {
    for (const std::string_view key :
         {"names", "pools", "cache", "lifetimes", "seals", "max_ttl", "max_size"})
      idle(key, "none of its verbs is about a region");
  } else {
    if (!lists(rule, Verb::create)) idle("max_size", "only create makes a size, and its verbs lack it");
    if (!lists(rule, Verb::create) && !lists(rule, Verb::renew))
      idle("max_ttl", "only create and renew set a ttl, and its verbs lack both");
  }
  if (rule.effect == Effect::allow && within<std::uint32_t>({0U}, rule.subject.uids)) {
    section.warning(section.at(),
                    "uid 0 is a container's root too; the machine's own is administrator = true");
  }
  if (rule.effect == Effect::allow && rule.subject.any) {
    std::string over_others;
    for (std::size_t i = 0; i < kVerbs; ++i) {
      const auto verb = static_cast<Verb>(i);
      if (rule.verbs.test(i) && administers(verb))
        over_others += (over_others.empty() ? "" : ", ") + std::string(to_string(verb));
    }
    if (!over_others.empty())
      section.warning(section.at("verbs"), "it gives everybody " + over_others +
                                               ", which decide over others: name a user or a group");
  }
  if (!lists(rule, Verb::create) && !lists(rule, Verb::open) && !lists(rule, Verb::clone))
    idle("rights", "only create, open and clone give rights, and its verbs lack them");
}

// ---- the whole
// ---------------------------------------------------------------------------------------------------

namespace {

bool covers(const SubjectMatch& wide, const SubjectMatch& narrow) {
  if (wide.placed()) return false;
  if (wide.any) return true;
  if (narrow.any || narrow.endpoints() || wide.endpoints()) return false;
  if (narrow.administrator) return wide.administrator || within<std::uint32_t>({0U}, wide.uids);
  return within(narrow.uids, wide.uids) && within(narrow.gids, wide.gids);
}

/// Whether the deny speaks of everything that the allow speaks of.
bool shadows(const Rule& deny, const Rule& allow) {
  if (!covers(deny.subject, allow.subject)) return false;
  const bool about_regions = !deny.names.empty() || !deny.pools.empty();
  // A deny about regions leaves the verbs that are about none, unless it lists them.
  if (deny.verbs.any()) {
    if (allow.verbs.none() || (allow.verbs & ~deny.verbs).any()) return false;
  } else if (about_regions && allow.verbs.none() && allow.names.empty() && allow.pools.empty()) {
    return false;
  } else if (about_regions) {
    for (std::size_t i = 0; i < kVerbs; ++i) {
      if (nameless(static_cast<Verb>(i)) && allow.verbs.test(i)) return false;
    }
  }
  if (!deny.names.empty()) {
    if (allow.names.empty()) return false;
    for (const std::string& name : allow.names) {
      if (std::none_of(deny.names.begin(), deny.names.end(),
                       [&](const std::string& wide) { return covers(wide, name); })) {
        return false;
      }
    }
  }
  if (!deny.pools.empty() && (allow.pools.empty() || !within(allow.pools, deny.pools))) return false;
  // What a deny narrows further, such as to rights that were asked for, leaves something.
  return !deny.rights && deny.cache.none() && deny.lifetimes.none() && deny.seals.none();
}

/// Denies by whom and what they speak of, so that an allow is held against those alone that could shadow it.
class Denies {
 public:
  explicit Denies(const std::vector<Rule>& rules) {
    for (const Rule& rule : rules) {
      if (rule.effect != Effect::deny) continue;
      for (const Whom& whom : of_a_deny(rule.subject)) {
        if (rule.names.empty()) found_[{whom, ""}].push_back(&rule);
        for (const std::string& glob : rule.names) found_[{whom, glob}].push_back(&rule);
      }
    }
  }

  /// The first in the file's order that leaves nothing of the allow; null: none.
  [[nodiscard]] const Rule* first_over(const Rule& allow) const {
    const Rule* first = nullptr;
    for (const Whom& whom : of_an_allow(allow.subject)) {
      for (const std::string& glob : wider(allow.names)) {
        const auto found = found_.find({whom, glob});
        if (found == found_.end()) continue;
        const auto over = std::find_if(found->second.begin(), found->second.end(),
                                       [&](const Rule* deny) { return shadows(*deny, allow); });
        if (over != found->second.end() && (first == nullptr || *over < first)) first = *over;
      }
    }
    return first;
  }

 private:
  using Whom = std::pair<char, std::uint32_t>;

  static std::vector<Whom> of_a_deny(const SubjectMatch& match) {
    std::vector<Whom> whom;
    if (match.any) whom.emplace_back('*', 0);
    if (match.administrator) whom.emplace_back('a', 0);
    for (const std::uint32_t uid : match.uids) whom.emplace_back('u', uid);
    for (const std::uint32_t gid : match.gids) whom.emplace_back('g', gid);
    return whom;
  }

  /// One of them has every deny whose subject covers this one.
  static std::vector<Whom> of_an_allow(const SubjectMatch& match) {
    std::vector<Whom> whom{{'*', 0}};
    if (match.administrator) {
      whom.emplace_back('a', 0);
      whom.emplace_back('u', 0);
    }
    if (!match.uids.empty()) whom.emplace_back('u', match.uids.front());
    if (!match.gids.empty()) whom.emplace_back('g', match.gids.front());
    return whom;
  }

  /// None ("") and every glob that covers the first of the names.
  static std::vector<std::string> wider(const std::vector<std::string>& names) {
    std::vector<std::string> globs{""};
    if (names.empty()) return globs;
    const std::string& name = names.front();
    globs.push_back(name);
    if (name != "**") globs.emplace_back("**");
    for (std::size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
      std::string glob = name.substr(0, slash) + "/**";
      if (glob != name) globs.push_back(std::move(glob));
    }
    return globs;
  }

  std::map<std::pair<Whom, std::string>, std::vector<const Rule*>> found_;
};

void warn_of_shadows(const std::vector<Rule>& rules, Problems& problems) {
  const Denies denies(rules);
  for (const Rule& rule : rules) {
    if (rule.effect != Effect::allow) continue;
    if (const Rule* deny = denies.first_over(rule))
      problems.warn(rule.at, "[[rule]]: it allows nothing, since all of it is denied by " + deny->where);
  }
}

void warn_of_twins(const std::vector<Rule>& rules, Problems& problems) {
  using Sense =
      std::tuple<Effect, bool, bool, std::vector<std::uint32_t>, std::vector<std::uint32_t>, std::string,
                 std::vector<std::string>, std::vector<std::string>, unsigned long, int, unsigned long,
                 unsigned long, unsigned long, std::int64_t, std::uint64_t, bool>;
  std::map<Sense, const Rule*> seen;
  for (const Rule& rule : rules) {
    Sense sense{rule.effect,
                rule.subject.any,
                rule.subject.administrator,
                rule.subject.uids,
                rule.subject.gids,
                rule.subject.endpoints() || rule.subject.placed() ? rule.subject.text : "",
                rule.names,
                rule.pools,
                rule.verbs.to_ulong(),
                rule.rights ? static_cast<int>(*rule.rights) : -1,
                rule.cache.to_ulong(),
                rule.lifetimes.to_ulong(),
                rule.seals.to_ulong(),
                rule.max_ttl.value_or(std::chrono::nanoseconds(-1)).count(),
                rule.max_size.value_or(ByteCount{}).value,
                rule.published_only};
    const auto [at, fresh] = seen.emplace(std::move(sense), &rule);
    if (!fresh) problems.warn(rule.at, "[[rule]]: it says what " + at->second->where + " says already");
  }
}

/// Nobody may do what only an administrator does.
void warn_of_nobody_in_charge(const Policy& policy, Problems& problems) {
  const Subject root = Subject::for_explanation(0, 0, {}, "root");
  Action sets_quotas;
  sets_quotas.verb = Verb::quota_set;
  const auto gives = [](const Rule& rule) {
    const SubjectMatch& whom = rule.subject;
    const bool about_regions = !rule.names.empty() || !rule.pools.empty();
    const bool means_root = whom.administrator || whom.any || within<std::uint32_t>({0U}, whom.uids);
    return rule.effect == Effect::allow && lists(rule, Verb::quota_set) &&
           (rule.verbs.any() || (!about_regions && means_root));
  };
  if (std::none_of(policy.rules().begin(), policy.rules().end(), gives)) {
    problems.warn(
        policy.rules().front().at,
        "policy: nobody may set quotas, the administrator neither: a [[rule]] with administrator = true and "
        "nothing more gives everything");
  } else if (const auto allowed = policy.authorize(root, sets_quotas);
             !allowed && policy.closest_part(root, sets_quotas) == Part::none) {
    problems.warn(policy.rules().front().at,
                  "policy: the administrator is locked out: " + allowed.error().sentence);
  }
}

void warn_of_idle_pools(const Policy& policy, Problems& problems) {
  for (const PoolSettings& pool : policy.pools()) {
    const bool used = std::any_of(policy.rules().begin(), policy.rules().end(), [&](const Rule& rule) {
      return rule.effect == Effect::allow && lists(rule, Verb::create) &&
             (rule.pools.empty() ||
              std::find(rule.pools.begin(), rule.pools.end(), pool.name) != rule.pools.end());
    });
    if (!used)
      problems.warn(pool.at.position, "[pool." + pool.name + "]: no rule allows anybody to create in it");
  }
}

/// The largest that a region can be in one of the pools, where the file says.
std::optional<ByteCount> capacity_of(const Policy& policy, const std::vector<std::string>& pools) {
  ByteCount sum{};
  for (const PoolSettings& pool : policy.pools()) {
    if (!pools.empty() && std::find(pools.begin(), pools.end(), pool.name) == pools.end()) continue;
    const auto* bytes = pool.capacity ? std::get_if<ByteCount>(&*pool.capacity) : nullptr;
    if (bytes == nullptr) return std::nullopt;
    sum.value += bytes->value;
  }
  return sum;
}

void warn_of_idle_limits(const Policy& policy, Problems& problems) {
  for (const QuotaRule& quota : policy.quotas()) {
    const std::vector<std::string> pools =
        quota.pool.empty() ? std::vector<std::string>() : std::vector<std::string>{quota.pool};
    const std::optional<ByteCount> capacity = capacity_of(policy, pools);
    if (quota.limits.bytes && capacity && *quota.limits.bytes > capacity->value) {
      problems.warn(quota.at,
                    "[[quota]]: bytes = " + format_bytes({*quota.limits.bytes}) + " is more than " +
                        (quota.pool.empty() ? "all pools have together, " : "pool " + quota.pool + " has, ") +
                        format_bytes(*capacity) + ": it limits nothing");
    }
    const std::uint32_t most = policy.broker().max_connections_per_user;
    if (quota.limits.connections && *quota.limits.connections > most) {
      problems.warn(quota.at, "[[quota]]: connections = " + std::to_string(*quota.limits.connections) +
                                  " is more than max_connections_per_user, " + std::to_string(most) +
                                  ": it limits nothing");
    }
  }
  for (const Rule& rule : policy.rules()) {
    const std::optional<ByteCount> capacity = capacity_of(policy, rule.pools);
    if (rule.max_size && capacity && *rule.max_size > *capacity) {
      problems.warn(rule.at, "[[rule]]: max_size = " + format_bytes(*rule.max_size) +
                                 " is more than its pools have, " + format_bytes(*capacity) +
                                 ": it limits nothing");
    }
  }
}

/// What no region of that backing can ever be, whatever the pool's other keys.
std::bitset<3> seals_of(const PoolSettings& pool) {
  std::bitset<3> seals;
  const auto can = [&seals](SealKind kind) { seals.set(static_cast<std::size_t>(kind)); };
  if (pool.backing == Backing::dax_device || pool.backing == Backing::pci_bar) {
    can(SealKind::irrevocable);
  } else {
    if (!pool.secret) can(SealKind::revocable);
    if (pool.backing == Backing::memory) can(SealKind::sealed);
  }
  return seals;
}
std::bitset<4> cache_modes_of(const PoolSettings& pool) {
  std::bitset<4> modes;
  modes.set(static_cast<std::size_t>(CacheMode::write_back));
  modes.set(static_cast<std::size_t>(CacheMode::write_through));
  if (pool.backing == Backing::pci_bar) modes.set();
  return modes;
}

/// Promise 14: a deny of what cannot be would deny nothing.
void refuse_what_no_pool_makes(const Policy& policy, Problems& problems) {
  for (const Rule& rule : policy.rules()) {
    std::bitset<3> seals;
    std::bitset<4> modes;
    for (const PoolSettings& pool : policy.pools()) {
      if (!rule.pools.empty() &&
          std::find(rule.pools.begin(), rule.pools.end(), pool.name) == rule.pools.end())
        continue;
      seals |= seals_of(pool);
      modes |= cache_modes_of(pool);
    }
    const std::string never = "[[rule]]: it can never apply: none of its pools ";
    if (rule.seals.any() && (rule.seals & seals).none())
      problems.add(rule.at, never + "makes regions with these seals");
    if (rule.cache.any() && (rule.cache & modes).none())
      problems.add(rule.at, never + "has these cache modes");
  }
}

}  // namespace

void examine_the_whole(const Policy& policy, Problems& problems) {
  if (policy.rules().empty()) {
    problems.warn(
        Position{},
        "policy: there is no rule, so nobody may do anything, the administrator neither: add [[rule]]");
    return;
  }
  warn_of_nobody_in_charge(policy, problems);
  warn_of_idle_pools(policy, problems);
  warn_of_idle_limits(policy, problems);
  warn_of_shadows(policy.rules(), problems);
  warn_of_twins(policy.rules(), problems);
  refuse_what_no_pool_makes(policy, problems);
}

}  // namespace mapcap::policy
