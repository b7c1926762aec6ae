// Words that are not among those that are known, and what was perhaps meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mapcap {

/// The known word that `word` is a slip of: fewest letters missing, too many, wrong or exchanged with the
/// next, at most a third of the word's. Empty for none.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known);

/// "verb \"opne\" is not one of create, open; did you mean \"open\"?". `word` may come from anywhere.
std::string not_one_of(std::string_view what, std::string_view word,
                       const std::vector<std::string_view>& known);

}  // namespace mapcap
