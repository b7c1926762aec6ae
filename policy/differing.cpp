#include "policy/differing.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "base/glob.h"
#include "policy/changes.h"
#include "policy/match.h"

namespace mapcap::policy {
namespace {

using Said = std::unordered_map<std::string, std::size_t>;

/// What a rule says has its subject in it.
Said said_by(const Policy& policy) {
  Said said;
  for (const Rule& rule : policy.rules()) ++said[in_words(rule)];
  return said;
}

std::vector<Rule> only_in_one(const Policy& before, const Policy& after) {
  std::vector<Rule> rules;
  const auto add = [&rules](const Policy& one, Said others) {
    for (const Rule& rule : one.rules()) {
      std::size_t& left = others[in_words(rule)];
      if (left > 0) {
        --left;
      } else {
        rules.push_back(rule);
      }
    }
  };
  add(before, said_by(after));
  add(after, said_by(before));
  return rules;
}

bool about(const Rule& rule, const Subject& subject) {
  return first_mismatch(rule, subject, Action{}) != Part::subject;
}

bool lists_a_verb(const Rule& rule, bool of_no_region) {
  for (std::size_t i = 0; i < kVerbs; ++i) {
    if (rule.verbs.test(i) && nameless(static_cast<Verb>(i)) == of_no_region) return true;
  }
  return false;
}

bool about_regions(const Rule& rule) {
  return rule.verbs.none() || lists_a_verb(rule, false);
}

bool about_no_region(const Rule& rule) {
  return rule.verbs.none() ? rule.names.empty() && rule.pools.empty() : lists_a_verb(rule, true);
}

bool has_the_asker(const std::string& glob) {
  return glob.find('{') != std::string::npos;
}

void sort(std::vector<std::size_t>& indices) {
  std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
}

}  // namespace

// ---- rules

Differing::Differing(const Policy& before, const Policy& after)
    : rules_(only_in_one(before, after)), index_(rules_) {
  for (const Rule& rule : rules_) {
    everybody_ = everybody_ || rule.subject.any;
    everybody_no_region_ = everybody_no_region_ || (rule.subject.any && about_no_region(rule));
  }
  const Said now = said_by(after);
  for (const Rule& rule : before.rules()) {
    if (!now.contains(in_words(rule))) gone_.emplace(rule.where, &rule);
  }
}

bool Differing::concerns(const Subject& subject) const {
  if (everybody_) return true;
  const std::vector<std::uint32_t> his = index_.about(subject, RuleIndex::Of::him);
  return std::any_of(his.begin(), his.end(),
                     [&](std::uint32_t index) { return about(rules_[index], subject); });
}

bool Differing::speaks_of(const Subject& subject, std::string_view name) const {
  return index_.any(subject, name, [&](std::uint32_t index) {
    const Rule& rule = rules_[index];
    return about_regions(rule) && about(rule, subject) && names_region(rule, subject, name);
  });
}

bool Differing::speaks_of_no_region(const Subject& subject) const {
  if (everybody_no_region_) return true;
  const std::vector<std::uint32_t> his = index_.about(subject, RuleIndex::Of::him);
  return std::any_of(his.begin(), his.end(), [&](std::uint32_t index) {
    return about_no_region(rules_[index]) && about(rules_[index], subject);
  });
}

bool Differing::gone(const std::string& where, const Subject& subject) const {
  const auto [first, last] = gone_.equal_range(where);
  return std::any_of(first, last, [&](const auto& entry) { return about(*entry.second, subject); });
}

std::vector<const Rule*> Differing::to_everybody() const {
  std::vector<const Rule*> found;
  for (const Rule& rule : rules_) {
    if (rule.subject.any && about_regions(rule)) found.push_back(&rule);
  }
  return found;
}

std::vector<const Rule*> Differing::to_him(const Subject& subject) const {
  std::vector<const Rule*> found;
  for (const std::uint32_t index : index_.about(subject, RuleIndex::Of::him)) {
    if (about_regions(rules_[index]) && about(rules_[index], subject)) found.push_back(&rules_[index]);
  }
  return found;
}

// ---- names

NamesApart::NamesApart(const Differing& differing, const std::vector<std::string>& names)
    : differing_(differing), names_(names), by_name_(names.size()) {
  std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
  std::sort(by_name_.begin(), by_name_.end(),
            [&](std::size_t a, std::size_t b) { return names_[a] < names_[b]; });
  for (const Rule* rule : differing_.to_everybody()) {
    if (rule->names.empty()) add_matches("**", everybodys_);
    for (const std::string& glob : rule->names) {
      if (!has_the_asker(glob)) add_matches(glob, everybodys_);
    }
    if (std::any_of(rule->names.begin(), rule->names.end(), has_the_asker)) with_the_asker_.push_back(rule);
  }
  sort(everybodys_);
}

void NamesApart::add_matches(const std::string& pattern, Indices& to) const {
  const Glob glob(pattern);
  const auto first =
      std::lower_bound(by_name_.begin(), by_name_.end(), glob.plain(),
                       [&](std::size_t at, const std::string& plain) { return names_[at] < plain; });
  for (auto at = first; at != by_name_.end() && names_[*at].starts_with(glob.plain()); ++at) {
    if (glob.matches(names_[*at])) to.push_back(*at);
  }
}

void NamesApart::add(const Rule& rule, const Subject& subject, Indices& to) const {
  if (rule.names.empty()) add_matches("**", to);
  for (const std::string& pattern : rule.names) {
    for (const std::string& glob : globs_for(rule, pattern, subject)) add_matches(glob, to);
  }
}

std::vector<std::size_t> NamesApart::of(const Subject& subject) const {
  Indices found = everybodys_;
  for (const Rule* rule : with_the_asker_) add(*rule, subject, found);
  for (const Rule* rule : differing_.to_him(subject)) add(*rule, subject, found);
  if (found.size() > everybodys_.size()) sort(found);
  return found;
}

}  // namespace mapcap::policy
