// Where two policies can answer differently: found by the rules that only one of them has, without asking either about
// what both say alike. Of thousands of people, and of thousands of names, that leaves few.
//
// What a policy answers is settled by which rules speak of the question, and not by the order in which they stand: a deny
// wins wherever it is, and one allow is as good as another. So where no differing rule speaks, both say the same.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/policy.h"
#include "policy/rule_index.h"
#include "policy/subject.h"

namespace mapcap::policy {

/// The rules of each of two policies that the other has not, or not as often.
class Differing {
 public:
  /// Both outlive this.
  Differing(const Policy& before, const Policy& after);

  /// Whether one of them is about him; and also speaks to him of that region; of a verb that is about no region.
  [[nodiscard]] bool concerns(const Subject& subject) const;
  [[nodiscard]] bool speaks_of(const Subject& subject, std::string_view name) const;
  [[nodiscard]] bool speaks_of_no_region(const Subject& subject) const;

  /// Whether a rule about him stood at that place before, and stands nowhere now.
  [[nodiscard]] bool gone(const std::string& where, const Subject& subject) const;

  /// Those that speak of regions: to everybody, and to him for his own, his groups' or his kind's sake.
  [[nodiscard]] std::vector<const Rule*> to_everybody() const;
  [[nodiscard]] std::vector<const Rule*> to_him(const Subject& subject) const;

 private:
  std::vector<Rule> rules_;
  RuleIndex index_;
  bool everybody_ = false;            ///< One is about everybody.
  bool everybody_no_region_ = false;  ///< And one of those speaks of a verb that is about no region.
  std::unordered_multimap<std::string, const Rule*> gone_;  ///< By their places.
};

/// Names, of which those that differing rules speak of are found without looking at the others.
class NamesApart {
 public:
  /// Both outlive this.
  NamesApart(const Differing& differing, const std::vector<std::string>& names);

  /// The indices of those about which the policies may answer him differently, ascending.
  [[nodiscard]] std::vector<std::size_t> of(const Subject& subject) const;

 private:
  using Indices = std::vector<std::size_t>;
  void add_matches(const std::string& glob, Indices& to) const;
  /// Of one who is asked for by name in the glob, too.
  void add(const Rule& rule, const Subject& subject, Indices& to) const;

  const Differing& differing_;
  const std::vector<std::string>& names_;
  Indices by_name_;     ///< All, in the order of their names.
  Indices everybodys_;  ///< What rules about everybody speak of, whoever asks; ascending.
  std::vector<const Rule*>
      with_the_asker_;  ///< Rules about everybody that have "{user}" or "{uid}" in a name.
};

}  // namespace mapcap::policy
