#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

#include "base/nearest.h"
#include "base/words.h"
#include "policy/endpoint.h"
#include "policy/load/parts.h"
#include "policy/place.h"
#include "schema/endpoint_id.h"
#include "schema/name_glob.h"

namespace mapcap::policy {
namespace {

/// One user or group: a name that the machine knows, or an id.
std::optional<std::uint32_t> read_id(
    Section& section, std::string_view key, const Node& node,
    const std::function<std::optional<std::uint32_t>(const std::string&)>& id_of) {
  if (const auto* name = std::get_if<std::string>(&node.value)) {
    const std::optional<std::uint32_t> id = id_of(*name);
    if (!id) section.problem(node.at, std::string(key) + " \"" + *name + "\" is not known on this machine");
    return id;
  }
  const auto* number = std::get_if<std::int64_t>(&node.value);
  // The largest id is the kernel's "no change", and never anybody's.
  if (number == nullptr || *number < 0 || *number >= std::numeric_limits<std::uint32_t>::max()) {
    section.problem(node.at, std::string(key) + " takes a name or an id from 0 to 4294967294");
    return std::nullopt;
  }
  if (is_principal(static_cast<std::uint32_t>(*number)))
    section.problem(node.at, std::string(key) + " " + std::to_string(*number) +
                                 " is a number of endpoints, and nobody's: say endpoint = \"ID\"");
  return static_cast<std::uint32_t>(*number);
}

std::string shown(const Node& node) {
  if (const auto* name = std::get_if<std::string>(&node.value)) return *name;
  if (const auto* number = std::get_if<std::int64_t>(&node.value)) return std::to_string(*number);
  return "?";
}

/// `uid = 1000` or `uid = [1000, 1001]`
void read_uids(Section& section, const Node& node, SubjectMatch& match) {
  const auto* list = std::get_if<Array>(&node.value);
  if (list != nullptr && list->empty()) section.problem(node.at, "uid is empty");
  match.text = "uid";
  const auto add = [&](const Node& element) {
    const auto no_names = [](const std::string&) { return std::optional<std::uint32_t>(); };
    const std::optional<std::uint32_t> uid = read_id(section, "uid", element, no_names);
    if (!uid) return;
    if (std::find(match.uids.begin(), match.uids.end(), *uid) != match.uids.end()) {
      section.problem(element.at, "uid has " + std::to_string(*uid) + " twice");
    }
    match.text += (match.uids.empty() ? " " : ", ") + std::to_string(*uid);
    match.uids.push_back(*uid);
  };
  if (list == nullptr) {
    add(node);
  } else {
    for (const Node& element : *list) add(element);
  }
}

/// `endpoint = "glob"`, `label = { namespace = "db" }`, or both: then both must hold.
bool read_endpoints(Section& section, SubjectMatch& match) {
  if (const std::optional<std::string> glob = section.text("endpoint")) {
    match.endpoint = *glob;
    match.text = "endpoint " + *glob;
    const std::string fault = schema::why_no_endpoint_matches(*glob);
    if (!fault.empty()) section.problem(section.at("endpoint"), "endpoint: \"" + *glob + "\" " + fault);
  }
  const Node* label = section.node("label");
  if (label == nullptr) return section.has("endpoint");
  const auto* table = std::get_if<Table>(&label->value);
  if (table == nullptr || table->empty()) {
    section.problem(label->at, "label takes a table such as { namespace = \"db\" }");
    return true;
  }
  for (const Entry& entry : *table) {
    const auto* value = std::get_if<std::string>(&entry.node.value);
    const Label wanted{entry.key, value == nullptr ? "" : *value};
    if (const auto fits = schema::check_label(wanted); !fits)
      section.problem(entry.at, fits.error().sentence);
    match.text += (match.text.empty() ? "label " : ", label ") + wanted.key + "=" + wanted.value;
    match.labels.push_back(wanted);
  }
  return true;
}

/// `unit = "x.service"`, `cgroup = "/kubepods/**"`: beside the subject, where it runs.
void read_place(Section& section, const Accounts& accounts, SubjectMatch& match) {
  match.unit = section.text("unit").value_or("");
  match.cgroup = section.text("cgroup").value_or("");
  const auto check = [&](std::string_view key, const std::string& glob, const std::string& fault) {
    if (!section.has(key)) return;
    if (!fault.empty()) section.problem(section.at(key), std::string(key) + ": \"" + glob + "\" " + fault);
    match.text += " in " + std::string(key) + " " + glob;
    if (accounts.tells_cgroups && !accounts.tells_cgroups())
      section.problem(section.at(key),
                      std::string(key) +
                          ": this kernel does not tell which cgroup a peer is in (Linux 6.5 does), so this "
                          "could only deny it to everybody: leave it out to mean that");
  };
  check("unit", match.unit, why_no_unit(match.unit));
  check("cgroup", match.cgroup, why_no_cgroup(match.cgroup));
}

/// Promise 11: identity comes from the kernel, and whoever may write a cgroup is not the kernel.
void check_place(Section& section, Effect effect) {
  if (effect == Effect::deny) return;
  for (const std::string_view key : {"unit", "cgroup"}) {
    if (!section.has(key)) continue;
    section.problem(
        section.at(key),
        std::string(key) +
            " narrows what is denied, and this rule allows: a peer's cgroup is no authority, since "
            "whoever may write cgroups moves processes, and a connection can be handed on; give a "
            "container an endpoint of its own");
  }
}

/// Exactly one of user, group, any, endpoint with label and, in rules, uid and administrator.
SubjectMatch read_subject(Section& section, const Accounts& accounts, bool in_rule) {
  SubjectMatch match;
  std::size_t said = 0;
  if (const Node* user = section.node("user")) {
    ++said;
    const std::optional<std::uint32_t> uid = read_id(section, "user", *user, accounts.uid_of);
    if (uid) match.uids.push_back(*uid);
    match.text = "user " + shown(*user);
  }
  if (const Node* group = section.node("group")) {
    ++said;
    const std::optional<std::uint32_t> gid = read_id(section, "group", *group, accounts.gid_of);
    if (gid) match.gids.push_back(*gid);
    match.text = "group " + shown(*group);
  }
  if (const Node* uids = in_rule ? section.node("uid") : nullptr) {
    ++said;
    read_uids(section, *uids, match);
  }
  const std::optional<bool> administrator = in_rule ? section.flag("administrator") : std::nullopt;
  if (administrator) {
    ++said;
    match.administrator = true;
    match.text = "administrator";
    if (!*administrator)
      section.problem(section.at("administrator"),
                      "administrator takes true: leave it out to mean somebody else");
  }
  if (read_endpoints(section, match)) ++said;
  const std::optional<bool> any = section.flag("any");
  if (section.has("any")) {
    ++said;
    match.any = true;
    match.text = "any user";
    if (any == false)
      section.problem(section.at("any"), "any takes true: leave it out to mean somebody else");
  }
  if (said != 1) {
    section.problem(section.at(),
                    std::string("say whom it is about with exactly one of user, group, ") +
                        (in_rule ? "uid, administrator, endpoint or label, any" : "endpoint or label, any"));
  }
  return match;
}

std::vector<std::string> read_globs(Section& section) {
  std::vector<std::string> globs;
  for (const Located<std::string>& element : section.texts("names")) {
    // A deny of names that nobody can have would deny nothing.
    const std::string fault = schema::why_no_name_matches(element.value, schema::Placeholders::known);
    if (!fault.empty()) section.problem(element.at, "names: \"" + element.value + "\" " + fault);
    globs.push_back(element.value);
  }
  return globs;
}

template <std::size_t N, typename Enum>
std::bitset<N> as_set(const std::vector<Enum>& values) {
  std::bitset<N> set;
  for (const Enum value : values) set.set(static_cast<std::size_t>(value));
  return set;
}

Result<Effect> parse_effect(std::string_view text) {
  if (text == "allow") return Effect::allow;
  if (text == "deny") return Effect::deny;
  return failure(ErrorCode::invalid, not_one_of("effect", text, {"allow", "deny"}));
}

/// An allow gives at most the strongest that it lists, a deny takes from the weakest upwards.
std::optional<Access> bound_of(const std::vector<Access>& rights, Effect effect) {
  if (rights.empty()) return std::nullopt;
  const auto [least, most] = std::minmax_element(rights.begin(), rights.end());
  return effect == Effect::allow ? *most : *least;
}

Result<bool> parse_published(std::string_view text) {
  if (text == "required") return true;
  return failure(ErrorCode::invalid, not_one_of("published", text, {"required"}));
}

/// Promise 14: what would restrict nothing, or deny the wrong half, is a mistake.
void check_published(Section& section, const Rule& rule) {
  if (!rule.published_only) return;
  if (rule.effect == Effect::deny) {
    section.problem(section.at("published"), "published limits what a rule allows, and this one denies");
  } else if (rule.verbs.any() && !rule.verbs.test(static_cast<std::size_t>(Verb::open))) {
    section.problem(section.at("published"), "published limits what may be opened, and its verbs lack open");
  }
}

void check_maxima(Section& section, const Rule& rule) {
  for (const std::string_view key : {"max_ttl", "max_size"}) {
    if (rule.effect == Effect::deny && section.has(key)) {
      section.problem(section.at(key), std::string(key) + " limits what a rule allows, and this one denies");
    }
  }
  const bool ttl_allowed =
      rule.lifetimes.none() || rule.lifetimes.test(static_cast<std::size_t>(LifetimeKind::ttl));
  if (rule.max_ttl && !ttl_allowed) {
    section.problem(section.at("max_ttl"), "max_ttl says nothing when lifetimes has no \"ttl\"");
  }
}

Rule load_rule(const Table& table, Position at, const std::vector<PoolSettings>& pools,
               const Accounts& accounts, Problems& problems) {
  Section section(table, "[[rule]]", at, problems);
  Rule rule;
  rule.where = problems.where(at);
  rule.at = at;
  rule.effect = section.word("effect", parse_effect).value_or(Effect::allow);
  rule.subject = read_subject(section, accounts, true);
  read_place(section, accounts, rule.subject);
  rule.names = read_globs(section);
  for (const Located<std::string>& pool : section.texts("pools")) {
    if (const auto found = find_pool(pools, pool.value); !found)
      section.problem(pool.at, found.error().sentence);
    rule.pools.push_back(pool.value);
  }
  rule.verbs = as_set<kVerbs>(section.words("verbs", parse_verb));
  rule.rights = bound_of(section.words("rights", parse_access), rule.effect);
  rule.cache = as_set<4>(section.words("cache", parse_cache_mode));
  rule.lifetimes = as_set<3>(section.words("lifetimes", parse_lifetime_kind));
  rule.seals = as_set<3>(section.words("seals", parse_seal_kind));
  rule.max_ttl = section.duration("max_ttl", std::chrono::seconds(1), kMaxDuration);
  rule.max_size = section.bytes("max_size");
  if (rule.max_size && rule.max_size->value < kPageSize) {
    section.problem(section.at("max_size"), "max_size is less than one page of 4096 bytes");
  }
  rule.published_only = section.word("published", parse_published).value_or(false);
  section.finish();
  check_published(section, rule);
  check_place(section, rule.effect);
  if (rule.subject.endpoints() && rule.effect == Effect::allow) {
    section.problem(section.at(),
                    "an endpoint may do what its maker may and no more, so a rule about endpoints gives "
                    "nothing: allow it to the maker, or say effect = \"deny\"");
  }
  check_maxima(section, rule);
  warn_of_one_rule(section, rule);
  return rule;
}

/// Grants can be counted only where the kernel tells of their end: bare files and devices just go.
void check_grants_count(Section& section, const std::string& name, const std::vector<PoolSettings>& pools) {
  const auto pool = find_pool(pools, name);
  if (!pool) return;
  const PoolSettings& settings = *pool.assume_value();
  const bool devices = settings.backing == Backing::dax_device || settings.backing == Backing::pci_bar;
  const bool bare = settings.confinement && *settings.confinement != Confinement::clone;
  if (!devices && !settings.secret && !bare) return;
  section.problem(section.at("grants"),
                  "grants of pool " + name +
                      " cannot be counted: the kernel tells when a clone is gone, and no "
                      "other descriptor");
}

/// Absent: whom it is about is not known, which is a problem already.
std::optional<QuotaRule> load_quota(const Table& table, Position at, const std::vector<PoolSettings>& pools,
                                    const Accounts& accounts, Problems& problems) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  Section section(table, "[[quota]]", at, problems);
  QuotaRule quota;
  quota.where = problems.where(at);
  quota.at = at;
  const SubjectMatch subject = read_subject(section, accounts, false);
  for (const std::string_view key : {"unit", "cgroup"}) {
    if (section.text(key))
      section.problem(
          section.at(key),
          std::string(key) +
              " says nothing of a quota: what is charged outlives connections and restarts, and its "
              "owner is known, not where he ran; give a container an endpoint of its own, with a "
              "quota about that endpoint");
  }
  if (!subject.uids.empty()) {
    quota.subject = SubjectKind::user;
    quota.id = subject.uids.front();
  } else if (!subject.gids.empty()) {
    quota.subject = SubjectKind::group;
    quota.id = subject.gids.front();
  } else if (subject.endpoints()) {
    quota.endpoints = subject;
  }
  quota.pool = section.text("pool").value_or("");
  if (!quota.pool.empty()) {
    if (const auto found = find_pool(pools, quota.pool); !found)
      section.problem(section.at("pool"), found.error().sentence);
  }
  if (const std::optional<Capacity> bytes = read_capacity(section, "bytes")) {
    if (const auto* share = std::get_if<Percent>(&*bytes)) {
      quota.share = *share;
    } else {
      quota.limits.bytes = std::get<ByteCount>(*bytes).value;
    }
  }
  quota.limits.regions = section.number("regions", 0, kMost);
  quota.limits.grants = section.number("grants", 0, kMost);
  quota.limits.connections = section.number("connections", 0, kMost);
  section.finish();
  if (!section.has("bytes") && !section.has("regions") && !section.has("grants") &&
      !section.has("connections")) {
    section.problem(at, "it limits nothing: give bytes, regions, grants or connections");
  }
  if (section.has("connections") && (section.has("pool") || section.has("group"))) {
    section.problem(section.at("connections"),
                    "connections are a user's, and belong to no pool and no group");
  }
  if (section.has("grants") && section.has("pool")) check_grants_count(section, quota.pool, pools);
  if (const Node* group = section.node("group")) {
    if (const auto* name = std::get_if<std::string>(&group->value)) quota.name = *name;
  }
  const bool known = subject.any || quota.endpoints || !subject.uids.empty() || !subject.gids.empty();
  if (!known) return std::nullopt;
  return quota;
}

/// Calls `load(table, position)` for every table of a list of tables.
template <typename Load>
void for_each_table(const Array& list, std::string_view name, Problems& problems, Load load) {
  for (const Node& node : list) {
    if (const auto* table = std::get_if<Table>(&node.value)) {
      load(*table, node.at);
    } else {
      problems.add(node.at, std::string(name) + " is " + std::string(kind_of(node)) +
                                ", it takes a table: [[" + std::string(name) + "]]");
    }
  }
}

}  // namespace

std::vector<Rule> load_rules(const Array& list, const std::vector<PoolSettings>& pools,
                             const Accounts& accounts, Problems& problems) {
  std::vector<Rule> rules;
  for_each_table(list, "rule", problems, [&](const Table& table, Position at) {
    rules.push_back(load_rule(table, at, pools, accounts, problems));
  });
  return rules;
}

std::vector<QuotaRule> load_quotas(const Array& list, const std::vector<PoolSettings>& pools,
                                   const Accounts& accounts, Problems& problems) {
  std::vector<QuotaRule> quotas;
  std::map<std::tuple<SubjectKind, std::uint32_t, std::string, std::string>, std::string> places;
  for_each_table(list, "quota", problems, [&](const Table& table, Position at) {
    std::optional<QuotaRule> quota = load_quota(table, at, pools, accounts, problems);
    if (!quota) return;
    const auto [other, fresh] = places.emplace(
        std::tuple(quota->subject, quota->id, quota->pool, quota->endpoints ? quota->endpoints->text : ""),
        quota->where);
    if (!fresh)
      problems.add(at, "[[quota]]: the same subject and pool already have limits at " + other->second);
    quotas.push_back(std::move(*quota));
  });
  return quotas;
}

}  // namespace mapcap::policy
