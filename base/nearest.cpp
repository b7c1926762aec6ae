#include "base/nearest.h"

#include <algorithm>
#include <cstddef>

#include "base/text.h"

namespace mapcap {
namespace {

constexpr std::size_t kLongestWord = 40;

/// Edits (one letter more, less or other, or two neighbours exchanged) from one word to the other.
std::size_t distance(std::string_view from, std::string_view to) {
  const std::size_t width = to.size() + 1;
  std::vector<std::size_t> edits((from.size() + 1) * width);
  const auto at = [&](std::size_t i, std::size_t j) -> std::size_t& { return edits[i * width + j]; };
  for (std::size_t i = 0; i <= from.size(); ++i) {
    for (std::size_t j = 0; j <= to.size(); ++j) {
      if (i == 0 || j == 0) {
        at(i, j) = i + j;
        continue;
      }
      const std::size_t differs = from[i - 1] == to[j - 1] ? 0 : 1;
      at(i, j) = std::min({at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + differs});
      const bool exchanged = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
      if (exchanged) at(i, j) = std::min(at(i, j), at(i - 2, j - 2) + 1);
    }
  }
  return edits.back();
}

/// Capitals, and _ for -, are no slip worth an edit.
std::string plain(std::string_view word) {
  std::string text(word);
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '_') c = '-';
  }
  return text;
}

}  // namespace

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known) {
  if (word.empty() || word.size() > kLongestWord) return {};
  const std::string written = plain(word);
  std::string_view best;
  std::size_t fewest = std::max<std::size_t>(word.size() / 3, 1) + 1;
  for (const std::string_view candidate : known) {
    // A word of two letters is not the slip of another.
    const std::size_t edits = distance(written, plain(candidate));
    if (edits >= fewest || (edits > 0 && edits >= candidate.size())) continue;
    best = candidate;
    fewest = edits;
  }
  if (!best.empty() || written.size() < 3) return best;
  // Cut short, or with an ending too many.
  for (const std::string_view candidate : known) {
    const std::string whole = plain(candidate);
    if (whole.starts_with(written) || (whole.size() >= 3 && written.starts_with(whole))) return candidate;
  }
  return best;
}

std::string not_one_of(std::string_view what, std::string_view word,
                       const std::vector<std::string_view>& known) {
  std::string accepted;
  for (const std::string_view candidate : known)
    accepted += (accepted.empty() ? "" : ", ") + std::string(candidate);
  std::string sentence =
      std::string(what) + " \"" + presentable(word, kLongestWord + 3) + "\" is not one of " + accepted;
  const std::string_view meant = nearest(word, known);
  if (!meant.empty()) sentence += "; did you mean \"" + std::string(meant) + "\"?";
  return sentence;
}

}  // namespace mapcap
