#include "policy/match.h"

#include <algorithm>
#include <array>

#include "base/glob.h"
#include "base/words.h"
#include "policy/endpoint.h"
#include "policy/place.h"

namespace mapcap::policy {
namespace {

bool contains(const auto& list, const auto& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// A denial about a user or a group is also about the uids that were lent to him or its members.
bool about_lender(const Rule& rule, const Subject& subject) {
  const Lender* lender = subject.lender();
  if (lender == nullptr || rule.effect == Effect::allow) return false;
  const SubjectMatch& match = rule.subject;
  return contains(match.uids, lender->uid) ||
         std::any_of(match.gids.begin(), match.gids.end(), [&](std::uint32_t gid) {
           return std::binary_search(lender->groups.begin(), lender->groups.end(), gid);
         });
}

/// Of an endpoint its maker is meant, but where a rule speaks of endpoints.
bool subject_matches(const Rule& rule, const Subject& asking) {
  const SubjectMatch& match = rule.subject;
  if (match.endpoints()) return asking.endpoint() != nullptr && means(match, *asking.endpoint());
  const Subject& subject = asking.authority();
  if (about_lender(rule, subject)) return true;
  if (match.any || contains(match.uids, subject.uid())) return true;
  if (match.administrator && subject.administrator()) return true;
  return std::any_of(match.gids.begin(), match.gids.end(),
                     [&](std::uint32_t gid) { return subject.in_group(gid); });
}

bool verb_matches(const Rule& rule, const Subject& subject, Verb verb) {
  if (rule.verbs.any()) return rule.verbs.test(static_cast<std::size_t>(verb));
  // A rule that lets somebody do all there is was not written about everybody's memory and limits.
  if (administers(verb) && rule.effect == Effect::allow && !subject.authority().administrator()) return false;
  return !nameless(verb) || (rule.names.empty() && rule.pools.empty());
}

/// Puts somebody into a glob. `user` has none of the glob's characters in it (Subject::user).
std::string expand(std::string_view pattern, const std::string& user, std::uint32_t uid) {
  std::string expanded;
  while (true) {
    const std::size_t brace = pattern.find('{');
    expanded += pattern.substr(0, brace);
    if (brace == std::string_view::npos) return expanded;
    pattern.remove_prefix(brace);
    const std::size_t length = pattern.find('}') + 1;
    expanded += pattern.substr(0, length) == "{user}" ? user : std::to_string(uid);
    pattern.remove_prefix(length);
  }
}

bool name_matches(const Rule& rule, const std::string& pattern, const Subject& subject,
                  std::string_view name) {
  if (pattern.find('{') == std::string::npos) return glob_match(pattern, name);
  if (glob_match(expand(pattern, subject.user(), subject.uid()), name)) return true;
  if (!about_lender(rule, subject)) return false;
  const Lender& lender = *subject.lender();
  return glob_match(expand(pattern, name_in_rules(lender.uid, lender.name), lender.uid), name);
}

bool any_name_matches(const Rule& rule, const Subject& subject, std::string_view name) {
  return std::any_of(rule.names.begin(), rule.names.end(),
                     [&](const std::string& pattern) { return name_matches(rule, pattern, subject, name); });
}

bool names_match(const Rule& rule, const Subject& subject, const Action& action) {
  if (rule.names.empty() || nameless(action.verb)) return true;
  if (action.name.empty()) return rule.effect == Effect::allow && action.verb == Verb::list;
  return any_name_matches(rule, subject, action.name);
}

bool rights_match(const Rule& rule, Access asked) {
  return rule.effect == Effect::allow ? asked <= *rule.rights : asked >= *rule.rights;
}

/// max_ttl and max_size bound what is made: a region that exists is opened, shown and revoked as it is.
bool makes(Verb verb) {
  return verb == Verb::create || verb == Verb::renew;
}

bool lifetime_matches(const Rule& rule, Verb verb, LifetimeKind asked) {
  if (rule.lifetimes.any()) return rule.lifetimes.test(static_cast<std::size_t>(asked));
  return !rule.max_ttl || !makes(verb) || asked != LifetimeKind::persistent;
}

template <std::size_t N, typename Enum>
bool set_matches(const std::bitset<N>& set, Enum asked) {
  return set.none() || set.test(static_cast<std::size_t>(asked));
}

}  // namespace

namespace {

/// Whether the rule does not speak of that part of the action.
bool misses(const Rule& rule, Part part, const Subject& subject, const Action& action) {
  // What the action leaves open stops no allow, and makes no deny apply that lists it. Of a verb that is about no region
  // it says nothing: a deny that lists the verb is about it, whatever else it lists.
  const bool open = rule.effect == Effect::allow || (rule.verbs.any() && nameless(action.verb));
  const auto says_no = [open](bool listed, const auto& asked, auto matches) {
    return listed && !(asked ? matches(*asked) : open);
  };
  switch (part) {
    case Part::subject:
      return !subject_matches(rule, subject) || !in_place(rule.subject, subject);
    case Part::verb:
      return !verb_matches(rule, subject, action.verb);
    case Part::name:
      return !names_match(rule, subject.authority(), action);
    case Part::pool:
      return !rule.pools.empty() && !(action.pool.empty() ? open : contains(rule.pools, action.pool));
    case Part::rights:
      return says_no(rule.rights.has_value(), action.rights,
                     [&](auto asked) { return rights_match(rule, asked); });
    case Part::cache:
      return says_no(rule.cache.any(), action.cache,
                     [&](auto asked) { return set_matches(rule.cache, asked); });
    case Part::lifetime:
      return says_no(rule.lifetimes.any() || rule.max_ttl.has_value(), action.lifetime,
                     [&](const auto& asked) { return lifetime_matches(rule, action.verb, asked.kind); });
    case Part::ttl:
      return says_no(rule.max_ttl.has_value() && makes(action.verb), action.lifetime, [&](const auto& asked) {
        return asked.kind != LifetimeKind::ttl || asked.ttl <= *rule.max_ttl;
      });
    case Part::size:
      return says_no(rule.max_size.has_value() && makes(action.verb), action.size,
                     [&](auto asked) { return asked <= *rule.max_size; });
    case Part::seal:
      return says_no(rule.seals.any(), action.seal,
                     [&](auto asked) { return set_matches(rule.seals, asked); });
    case Part::published:
      return rule.published_only && action.verb == Verb::open && !action.published;
    case Part::none:
      break;
  }
  return false;
}

constexpr std::array kParts{Part::subject,  Part::verb, Part::name, Part::pool, Part::rights,   Part::cache,
                            Part::lifetime, Part::ttl,  Part::size, Part::seal, Part::published};

}  // namespace

Part first_mismatch(const Rule& rule, const Subject& subject, const Action& action) {
  for (const Part part : kParts) {
    if (misses(rule, part, subject, action)) return part;
  }
  return Part::none;
}

std::vector<Part> mismatches(const Rule& rule, const Subject& subject, const Action& action) {
  std::vector<Part> parts;
  for (const Part part : kParts) {
    if (misses(rule, part, subject, action)) parts.push_back(part);
  }
  return parts;
}

bool names_region(const Rule& rule, const Subject& subject, std::string_view name) {
  return rule.names.empty() || any_name_matches(rule, subject.authority(), name);
}

std::vector<std::string> globs_for(const Rule& rule, const std::string& pattern, const Subject& asking) {
  if (pattern.find('{') == std::string::npos) return {pattern};
  const Subject& subject = asking.authority();
  std::vector<std::string> globs{expand(pattern, subject.user(), subject.uid())};
  if (about_lender(rule, subject)) {
    const Lender& lender = *subject.lender();
    globs.push_back(expand(pattern, name_in_rules(lender.uid, lender.name), lender.uid));
  }
  return globs;
}

// ---- in words

namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? "all" : text;
}

template <typename Enum, std::size_t N>
std::string joined(const std::bitset<N>& set) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < N; ++i) {
    if (set.test(i)) words.emplace_back(to_string(static_cast<Enum>(i)));
  }
  return joined(words);
}

}  // namespace

std::string what_it_says(const Rule& rule, Part part) {
  switch (part) {
    case Part::subject:
      return rule.subject.text;
    case Part::verb:
      if (rule.verbs.none() && rule.names.empty() && rule.pools.empty())
        return "it does not list this verb, which is the administrator's";
      if (rule.verbs.none()) return "it lists names or pools, and not this verb";
      return "verbs = " + joined<Verb>(rule.verbs);
    case Part::name:
      return "names = " + joined(rule.names);
    case Part::pool:
      return "pools = " + joined(rule.pools);
    case Part::rights:
      return "rights = " + std::string(to_string(rule.rights.value_or(Access::read_write)));
    case Part::cache:
      return "cache = " + joined<CacheMode>(rule.cache);
    case Part::lifetime:
      if (rule.lifetimes.none()) return "max_ttl excludes persistent";
      return "lifetimes = " + joined<LifetimeKind>(rule.lifetimes);
    case Part::ttl:
      return "max_ttl = " + format_duration_exact(rule.max_ttl.value_or(kMaxDuration));
    case Part::size:
      return "max_size = " + format_bytes(rule.max_size.value_or(ByteCount{}));
    case Part::seal:
      return "seals = " + joined<SealKind>(rule.seals);
    case Part::published:
      return "published = required";
    case Part::none:
      return "all of it";
  }
  return {};
}

std::string why_not(const Rule& rule, Part part, const Action& action) {
  std::string text = what_it_says(rule, part);
  if (part == Part::size && action.size) text += ", and this takes " + format_bytes(*action.size);
  if (part == Part::cache && action.cache) text += ", and this is " + std::string(to_string(*action.cache));
  if (part == Part::seal && action.seal) text += ", and this is " + std::string(to_string(*action.seal));
  if (part == Part::published) text += ", and this is not published";
  return text;
}

std::string describe(const Action& action) {
  std::string text(to_string(action.verb));
  if (!action.name.empty()) text.append(" ").append(action.name);
  if (!action.pool.empty()) text.append(" in pool ").append(action.pool);
  return text;
}

}  // namespace mapcap::policy
