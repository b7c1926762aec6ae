// Which of a policy's rules can speak of an action, without looking at the others.
//
// By the subject first: each user, group and kind of subject has rules of its own. Within these by name: a glob can only
// match a name that begins with what stands before its first wildcard or placeholder, and of all such beginnings those of
// one name lie on one way through a tree. So what a judgement costs does not grow with rules about others, nor with rules
// about other names; the rules that remain are to be asked (match.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/model.h"
#include "policy/subject.h"

namespace mapcap::policy {

/// Rules are told by their index in the file's order. Immutable once it is made; keeps nothing of `rules`.
class RuleIndex {
 public:
  explicit RuleIndex(const std::vector<Rule>& rules);
  RuleIndex(const RuleIndex&) = delete;
  RuleIndex& operator=(const RuleIndex&) = delete;

  /// The first rule of that effect about the subject that `applies` says yes to. `name`: the region's; empty where the
  /// action has none, which excludes nothing. Not every rule that it is asked about speaks of the subject, verb and name.
  [[nodiscard]] std::optional<std::uint32_t> first(Effect effect, const Subject& subject, Verb verb,
                                                   std::string_view name,
                                                   const std::function<bool(std::uint32_t)>& applies) const;

  /// Enough to find the closest of the allows about the subject: all that could speak of the action, and of those that
  /// another name, or another verb, keeps from it the first `most`. Sorted.
  [[nodiscard]] std::vector<std::uint32_t> near(const Subject& subject, Verb verb, std::string_view name,
                                                std::size_t most) const;

  /// Whether `applies` says yes to a rule about the subject, of either effect, that could speak of that name. Not every
  /// rule that it is asked about does.
  [[nodiscard]] bool any(const Subject& subject, std::string_view name,
                         const std::function<bool(std::uint32_t)>& applies) const;

  /// Which of the rules about somebody: those about everybody, or those about him, his groups and his kind.
  enum class Of : std::uint8_t { all, everybody, him };
  /// All of these about the subject, sorted.
  [[nodiscard]] std::vector<std::uint32_t> about(const Subject& subject, Of which = Of::all) const;

 private:
  /// Kept apart from the rules, which are far from each other.
  struct Entry {
    std::uint32_t rule = 0;
    std::uint16_t verbs = 0;  ///< That it speaks of when an administrator asks.
  };
  static_assert(kVerbs <= 16);
  struct Beginning {
    std::size_t length = 0;
    const Beginning* shorter = nullptr;  ///< The longest other one that this one's text begins with.
    std::vector<Entry> entries;
  };
  /// Rules of one effect about one subject. Every list is in the file's order.
  struct Shelf {
    std::vector<Entry> all;
    std::vector<Entry> of_any_name;
    std::vector<Entry> of_no_region;                           ///< That speak of a verb that is about none.
    std::map<std::string, Beginning, std::less<>> beginnings;  ///< Of globs. A rule may be at several.

    void add(const Entry& entry, const Rule& rule);
    void link();
  };
  struct Shelves {
    Shelf allows;
    Shelf denies;
  };
  using ById = std::unordered_map<std::uint32_t, Shelves>;

  /// Calls `visit` with every shelf of that effect that has something about the subject.
  template <typename Visit>
  void visit_shelves(const Subject& asking, Effect effect, Visit visit) const;
  /// Calls `visit` with the lists of a shelf that hold what could match the name.
  template <typename Visit>
  static void visit_named(const Shelf& shelf, std::string_view name, Visit visit);
  /// The same of an action, which may have no name.
  template <typename Visit>
  static void visit_lists(const Shelf& shelf, Verb verb, std::string_view name, Visit visit);

  ById by_uid_;
  ById by_gid_;
  Shelves for_any_;
  Shelves for_administrators_;
  Shelves for_endpoints_;
};

}  // namespace mapcap::policy
