// All places of the pattern that the text so far can have led to are kept as bits, and one byte of the text
// moves 64 of them at once. A star's place is kept while it may still swallow, and passes to its successor
// without a byte. Two stars or more in a row make one "**", so no star follows another, and one shift is all
// that passing takes.
#include "base/glob.h"

#include <algorithm>

namespace mapcap {
namespace {

constexpr std::size_t kBits = 64;
constexpr std::size_t kBytes = 256;

}  // namespace

Glob::Glob(std::string_view pattern) {
  const std::size_t first = std::min(pattern.find_first_of("*?"), pattern.size());
  plain_ = pattern.substr(0, first);
  pattern.remove_prefix(first);
  wild_ = !pattern.empty();
  if (!wild_) return;

  const std::size_t most = (pattern.size() + 1 + kBits - 1) / kBits;
  for (Places* places : {&one_, &within_, &across_, &star_}) places->assign(most, 0);
  literal_.assign(kBytes * most, 0);
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const std::size_t word = end_ / kBits;
    const std::uint64_t bit = 1ULL << (end_ % kBits);
    if (pattern[at] == '*') {
      const std::size_t behind = std::min(pattern.find_first_not_of('*', at), pattern.size());
      (behind - at > 1 ? across_ : within_)[word] |= bit;
      star_[word] |= bit;
      at = behind - 1;
    } else if (pattern[at] == '?') {
      one_[word] |= bit;
    } else {
      literal_[static_cast<unsigned char>(pattern[at]) * most + word] |= bit;
    }
    ++end_;
  }
}

bool Glob::matches(std::string_view text, std::size_t* steps) const {
  if (!text.starts_with(plain_)) return false;
  text.remove_prefix(plain_.size());
  if (!wild_) return text.empty();
  Places reached(words(), 0);
  reached[0] = 1 | (star_[0] & 1U) << 1U;
  for (const char c : text) {
    const bool within_component = c != '/';
    const std::uint64_t* literal = &literal_[static_cast<unsigned char>(c) * words()];
    std::uint64_t moved_in = 0;
    std::uint64_t passed_in = 0;
    std::uint64_t any = 0;
    for (std::size_t word = 0; word < words(); ++word) {
      const std::uint64_t here = reached[word];
      const std::uint64_t moved = here & (literal[word] | (within_component ? one_[word] : 0));
      const std::uint64_t stays = here & (across_[word] | (within_component ? within_[word] : 0));
      const std::uint64_t now = moved << 1U | moved_in | stays;
      const std::uint64_t passed = now & star_[word];
      reached[word] = now | passed << 1U | passed_in;
      any |= reached[word];
      moved_in = moved >> (kBits - 1);
      passed_in = passed >> (kBits - 1);
    }
    if (steps != nullptr) *steps += words();
    if (any == 0) return false;
  }
  return (reached[end_ / kBits] >> (end_ % kBits) & 1U) != 0;
}

bool glob_match(std::string_view pattern, std::string_view text) {
  const std::size_t plain = std::min(pattern.find_first_of("*?"), pattern.size());
  // Decides most matches, and costs nothing.
  if (text.substr(0, plain) != pattern.substr(0, plain)) return false;
  if (pattern.substr(plain) == "**") return true;
  return Glob(pattern).matches(text);
}

}  // namespace mapcap
