#include "policy/rule_index.h"

#include <algorithm>
#include <utility>

namespace mapcap::policy {
namespace {

std::uint16_t bit_of(Verb verb) {
  return static_cast<std::uint16_t>(1U << static_cast<unsigned>(verb));
}

/// As match.h reads them.
std::uint16_t verbs_of(const Rule& rule) {
  if (rule.verbs.any()) return static_cast<std::uint16_t>(rule.verbs.to_ulong());
  const bool about_regions = !rule.names.empty() || !rule.pools.empty();
  std::uint16_t verbs = 0;
  for (std::size_t i = 0; i < kVerbs; ++i) {
    const auto verb = static_cast<Verb>(i);
    if (!about_regions || !nameless(verb)) verbs = static_cast<std::uint16_t>(verbs | bit_of(verb));
  }
  return verbs;
}

std::uint16_t nameless_verbs() {
  std::uint16_t verbs = 0;
  for (std::size_t i = 0; i < kVerbs; ++i) {
    const auto verb = static_cast<Verb>(i);
    if (nameless(verb)) verbs = static_cast<std::uint16_t>(verbs | bit_of(verb));
  }
  return verbs;
}

std::string_view beginning_of(std::string_view glob) {
  return glob.substr(0, std::min(glob.find_first_of("*?{"), glob.size()));
}

}  // namespace

void RuleIndex::Shelf::add(const Entry& entry, const Rule& rule) {
  static const std::uint16_t kNameless = nameless_verbs();
  all.push_back(entry);
  if ((entry.verbs & kNameless) != 0) of_no_region.push_back(entry);
  if (rule.names.empty()) of_any_name.push_back(entry);
  for (const std::string& glob : rule.names) {
    std::vector<Entry>& entries = beginnings[std::string(beginning_of(glob))].entries;
    if (entries.empty() || entries.back().rule != entry.rule) entries.push_back(entry);
  }
}

/// In the order of their texts, whatever begins with one comes right behind it.
void RuleIndex::Shelf::link() {
  std::vector<std::pair<std::string_view, const Beginning*>> open;
  for (auto& [text, beginning] : beginnings) {
    while (!open.empty() && !std::string_view(text).starts_with(open.back().first)) open.pop_back();
    if (!open.empty()) beginning.shorter = open.back().second;
    beginning.length = text.size();
    open.emplace_back(text, &beginning);
  }
}

RuleIndex::RuleIndex(const std::vector<Rule>& rules) {
  const auto add = [](Shelves& shelves, const Entry& entry, const Rule& rule) {
    (rule.effect == Effect::deny ? shelves.denies : shelves.allows).add(entry, rule);
  };
  for (std::uint32_t i = 0; i < rules.size(); ++i) {
    const Rule& rule = rules[i];
    const Entry entry{i, verbs_of(rule)};
    if (rule.subject.any) add(for_any_, entry, rule);
    if (rule.subject.administrator) add(for_administrators_, entry, rule);
    if (rule.subject.endpoints()) add(for_endpoints_, entry, rule);
    for (const std::uint32_t uid : rule.subject.uids) add(by_uid_[uid], entry, rule);
    for (const std::uint32_t gid : rule.subject.gids) add(by_gid_[gid], entry, rule);
  }
  const auto link = [](Shelves& shelves) {
    shelves.allows.link();
    shelves.denies.link();
  };
  for (Shelves* shelves : {&for_any_, &for_administrators_, &for_endpoints_}) link(*shelves);
  for (ById* by_id : {&by_uid_, &by_gid_}) {
    for (auto& [id, shelves] : *by_id) link(shelves);
  }
}

template <typename Visit>
void RuleIndex::visit_shelves(const Subject& asking, Effect effect, Visit visit) const {
  const auto shelf_of = [effect](const Shelves& shelves) -> const Shelf& {
    return effect == Effect::deny ? shelves.denies : shelves.allows;
  };
  const auto visit_person = [&](std::uint32_t uid, const std::vector<std::uint32_t>& groups) {
    if (const auto found = by_uid_.find(uid); found != by_uid_.end()) visit(shelf_of(found->second));
    // By the shorter way: a user may be in 65,536 groups.
    if (by_gid_.size() < groups.size()) {
      for (const auto& [gid, shelves] : by_gid_) {
        if (std::binary_search(groups.begin(), groups.end(), gid)) visit(shelf_of(shelves));
      }
      return;
    }
    for (const std::uint32_t gid : groups) {
      if (const auto found = by_gid_.find(gid); found != by_gid_.end()) visit(shelf_of(found->second));
    }
  };
  const Subject& subject = asking.authority();
  visit(shelf_of(for_any_));
  if (subject.administrator()) visit(shelf_of(for_administrators_));
  if (asking.endpoint() != nullptr) visit(shelf_of(for_endpoints_));
  visit_person(subject.uid(), subject.groups());
  // What is denied to who lent the uid; what is allowed to him is not.
  const Lender* lender = subject.lender();
  if (lender != nullptr && effect == Effect::deny) visit_person(lender->uid, lender->groups);
}

/// Of the beginnings, the last that is not behind the name in their order begins with each beginning of the name that
/// there is: all that lies between a beginning and a name that begins so begins so too.
template <typename Visit>
void RuleIndex::visit_named(const Shelf& shelf, std::string_view name, Visit visit) {
  visit(shelf.of_any_name);
  auto last = shelf.beginnings.upper_bound(name);
  if (last == shelf.beginnings.begin()) return;
  --last;
  // How much of the name the last one shares decides which of its own beginnings are the name's.
  const auto differs = std::mismatch(last->first.begin(), last->first.end(), name.begin(), name.end()).first;
  const auto shared = static_cast<std::size_t>(differs - last->first.begin());
  for (const Beginning* beginning = &last->second; beginning != nullptr; beginning = beginning->shorter) {
    if (beginning->length <= shared) visit(beginning->entries);
  }
}

template <typename Visit>
void RuleIndex::visit_lists(const Shelf& shelf, Verb verb, std::string_view name, Visit visit) {
  if (!name.empty()) return visit_named(shelf, name, visit);
  visit(nameless(verb) ? shelf.of_no_region : shelf.all);
}

std::optional<std::uint32_t> RuleIndex::first(Effect effect, const Subject& subject, Verb verb,
                                              std::string_view name,
                                              const std::function<bool(std::uint32_t)>& applies) const {
  std::optional<std::uint32_t> best;
  const std::uint16_t wanted = bit_of(verb);
  visit_shelves(subject, effect, [&](const Shelf& shelf) {
    visit_lists(shelf, verb, name, [&](const std::vector<Entry>& entries) {
      for (const Entry& entry : entries) {
        if (best && entry.rule >= *best) return;
        if ((entry.verbs & wanted) == 0 || !applies(entry.rule)) continue;
        best = entry.rule;
        return;
      }
    });
  });
  return best;
}

std::vector<std::uint32_t> RuleIndex::near(const Subject& subject, Verb verb, std::string_view name,
                                           std::size_t most) const {
  const auto sort = [](std::vector<std::uint32_t>& rules) {
    if (!std::is_sorted(rules.begin(), rules.end())) std::sort(rules.begin(), rules.end());
    rules.erase(std::unique(rules.begin(), rules.end()), rules.end());
  };
  const std::uint16_t wanted = bit_of(verb);
  std::vector<std::uint32_t> could;
  visit_shelves(subject, Effect::allow, [&](const Shelf& shelf) {
    visit_lists(shelf, verb, name, [&](const std::vector<Entry>& entries) {
      for (const Entry& entry : entries) {
        if ((entry.verbs & wanted) != 0) could.push_back(entry.rule);
      }
    });
  });
  sort(could);
  std::vector<std::uint32_t> rules = could;
  visit_shelves(subject, Effect::allow, [&](const Shelf& shelf) {
    std::size_t of_another_name = 0;
    std::size_t of_another_verb = 0;
    for (const Entry& entry : shelf.all) {
      if (of_another_name >= most && of_another_verb >= most) break;
      const bool speaks = (entry.verbs & wanted) != 0;
      std::size_t& taken = speaks ? of_another_name : of_another_verb;
      if (taken >= most) continue;
      if (speaks && std::binary_search(could.begin(), could.end(), entry.rule)) continue;
      ++taken;
      rules.push_back(entry.rule);
    }
  });
  sort(rules);
  return rules;
}

bool RuleIndex::any(const Subject& subject, std::string_view name,
                    const std::function<bool(std::uint32_t)>& applies) const {
  bool found = false;
  for (const Effect effect : {Effect::allow, Effect::deny}) {
    visit_shelves(subject, effect, [&](const Shelf& shelf) {
      visit_named(shelf, name, [&](const std::vector<Entry>& entries) {
        found = found || std::any_of(entries.begin(), entries.end(),
                                     [&](const Entry& entry) { return applies(entry.rule); });
      });
    });
  }
  return found;
}

std::vector<std::uint32_t> RuleIndex::about(const Subject& subject, Of which) const {
  std::vector<std::uint32_t> rules;
  for (const Effect effect : {Effect::allow, Effect::deny}) {
    visit_shelves(subject, effect, [&](const Shelf& shelf) {
      const bool everybodys = &shelf == &for_any_.allows || &shelf == &for_any_.denies;
      if (which != Of::all && everybodys != (which == Of::everybody)) return;
      for (const Entry& entry : shelf.all) rules.push_back(entry.rule);
    });
  }
  std::sort(rules.begin(), rules.end());
  rules.erase(std::unique(rules.begin(), rules.end()), rules.end());
  return rules;
}

}  // namespace mapcap::policy
