#include "policy/subordinates.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

namespace mapcap::policy {
namespace {

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Takes what stands before the next `separator` off the front of `text`, and the separator.
std::string_view take_until(char separator, std::string_view& text) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return taken;
}

}  // namespace

Subordinates Subordinates::parse(std::string_view subuid, const Accounts& accounts) {
  Subordinates all;
  while (!subuid.empty()) {
    std::string_view line = take_until('\n', subuid);
    const std::string owner_name(take_until(':', line));
    const auto first = number(take_until(':', line));
    const auto count = number(line);
    if (owner_name.empty() || !first || !count || *count == 0) continue;
    if (*count - 1 > std::numeric_limits<std::uint32_t>::max() - *first) continue;
    std::optional<std::uint32_t> owner = number(owner_name);
    if (!owner) owner = accounts.uid_of(owner_name);
    if (!owner || *owner == 0) continue;
    const Range range{*first, *first + (*count - 1), *owner};
    const auto behind = std::find_if(all.ranges_.begin(), all.ranges_.end(),
                                     [&](const Range& other) { return other.last >= range.first; });
    if (behind != all.ranges_.end() && behind->first <= range.last) continue;
    all.ranges_.insert(behind, range);
  }
  return all;
}

Subordinates Subordinates::of_machine() {
  std::ifstream file("/etc/subuid");
  std::ostringstream text;
  text << file.rdbuf();  // Iterators would throw at a directory.
  return parse(text.str(), system_accounts());
}

std::uint32_t Subordinates::account_of(std::uint32_t uid) const {
  const auto found = std::partition_point(ranges_.begin(), ranges_.end(),
                                          [uid](const Range& range) { return range.last < uid; });
  return found != ranges_.end() && found->first <= uid ? found->owner : uid;
}

}  // namespace mapcap::policy
