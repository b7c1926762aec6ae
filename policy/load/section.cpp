#include "policy/load/section.h"

#include "base/nearest.h"
#include "base/text.h"

namespace mapcap::policy {
void Problems::add(Severity severity, Position at, std::string what) {
  found_.push_back({severity, at, presentable(what, 480)});
}

bool Problems::no_errors() const {
  return std::none_of(found_.begin(), found_.end(),
                      [](const Problem& problem) { return problem.severity == Severity::error; });
}

std::vector<Problem> Problems::found() const {
  std::vector<Problem> sorted = found_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Problem& a, const Problem& b) { return a.at < b.at; });
  return sorted;
}

const Entry* Section::find(std::string_view key) const {
  const auto found =
      std::find_if(table_.begin(), table_.end(), [&](const Entry& entry) { return entry.key == key; });
  return found == table_.end() ? nullptr : &*found;
}

Position Section::at(std::string_view key) const {
  const Entry* entry = find(key);
  return entry == nullptr ? at_ : entry->node.at;
}

void Section::wrong_kind(std::string_view key, const Node& found, std::string_view wanted) {
  problem(found.at,
          std::string(key) + " is " + std::string(kind_of(found)) + ", it takes " + std::string(wanted));
}

const Node* Section::node(std::string_view key) {
  known_.push_back(key);
  const Entry* entry = find(key);
  return entry == nullptr ? nullptr : &entry->node;
}

std::optional<std::string> Section::text(std::string_view key) {
  const Node* found = node(key);
  if (found == nullptr) return std::nullopt;
  const auto* value = std::get_if<std::string>(&found->value);
  if (value == nullptr) {
    wrong_kind(key, *found, "a string");
    return std::nullopt;
  }
  if (value->empty() || find_bad_text(*value, Controls::refused) != std::string::npos) {
    problem(found->at, std::string(key) + " is empty or has control characters in it");
    return std::nullopt;
  }
  return *value;
}

std::optional<bool> Section::flag(std::string_view key) {
  const Node* found = node(key);
  if (found == nullptr) return std::nullopt;
  const bool* value = std::get_if<bool>(&found->value);
  if (value == nullptr) {
    wrong_kind(key, *found, "true or false");
    return std::nullopt;
  }
  return *value;
}

std::optional<std::uint64_t> Section::number(std::string_view key, std::uint64_t least, std::uint64_t most) {
  const Node* found = node(key);
  if (found == nullptr) return std::nullopt;
  const auto* value = std::get_if<std::int64_t>(&found->value);
  if (value == nullptr) {
    wrong_kind(key, *found, "a number");
    return std::nullopt;
  }
  if (*value < 0 || static_cast<std::uint64_t>(*value) < least || static_cast<std::uint64_t>(*value) > most) {
    problem(found->at, std::string(key) + " is " + std::to_string(*value) + ", it takes " +
                           std::to_string(least) + " to " + std::to_string(most));
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(*value);
}

std::optional<ByteCount> Section::bytes(std::string_view key) {
  const Node* found = node(key);
  if (found == nullptr) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(&found->value)) {
    return parsed(found->at, parse_bytes(*text));
  }
  const auto* count = std::get_if<std::int64_t>(&found->value);
  if (count == nullptr || *count < 0) {
    wrong_kind(key, *found, "a size such as \"64M\"");
    return std::nullopt;
  }
  return ByteCount{static_cast<std::uint64_t>(*count)};
}

std::optional<std::chrono::nanoseconds> Section::duration(std::string_view key,
                                                          std::chrono::nanoseconds least,
                                                          std::chrono::nanoseconds most) {
  const Node* found = node(key);
  if (found == nullptr) return std::nullopt;
  std::optional<std::chrono::nanoseconds> value;
  if (const auto* text = std::get_if<std::string>(&found->value)) {
    value = parsed(found->at, parse_duration(*text));
  } else if (const auto* seconds = std::get_if<std::int64_t>(&found->value)) {
    value = parsed(found->at, parse_duration(std::to_string(*seconds)));
  } else {
    wrong_kind(key, *found, "a duration such as \"30s\"");
  }
  if (value && (*value < least || *value > most)) {
    problem(found->at, std::string(key) + " is " + format_duration(*value) + ", it takes " +
                           format_duration(least) + " to " + format_duration(most));
    return std::nullopt;
  }
  return value;
}

std::vector<Located<std::string>> Section::texts(std::string_view key) {
  const Node* found = node(key);
  if (found == nullptr) return {};
  const auto* list = std::get_if<Array>(&found->value);
  if (list == nullptr) {
    wrong_kind(key, *found, "a list of strings");
    return {};
  }
  if (list->empty()) problem(found->at, std::string(key) + " is empty: leave it out to say nothing about it");
  std::vector<Located<std::string>> values;
  for (const Node& element : *list) {
    const auto* text = std::get_if<std::string>(&element.value);
    if (text == nullptr) {
      wrong_kind(key, element, "strings in its list");
      continue;
    }
    if (text->empty() || find_bad_text(*text, Controls::refused) != std::string::npos) {
      problem(element.at, std::string(key) + " has an element that is empty or has control characters in it");
      continue;
    }
    const bool twice =
        std::any_of(values.begin(), values.end(), [&](const auto& other) { return other.value == *text; });
    if (twice) problem(element.at, std::string(key) + " has \"" + *text + "\" twice");
    values.push_back({*text, element.at});
  }
  return values;
}

std::vector<Located<std::string>> Section::texts_again(std::string_view key) const {
  std::vector<Located<std::string>> values;
  const Entry* entry = find(key);
  const auto* list = entry == nullptr ? nullptr : std::get_if<Array>(&entry->node.value);
  if (list == nullptr) return values;
  for (const Node& element : *list) {
    if (const auto* text = std::get_if<std::string>(&element.value)) values.push_back({*text, element.at});
  }
  return values;
}

void Section::finish() {
  // A key that takes several kinds was asked for several times.
  std::vector<std::string_view> known;
  for (const std::string_view key : known_) {
    if (std::find(known.begin(), known.end(), key) == known.end()) known.push_back(key);
  }
  std::string keys;
  for (const std::string_view key : known) keys += (keys.empty() ? "" : ", ") + std::string(key);
  for (const Entry& entry : table_) {
    if (std::find(known.begin(), known.end(), entry.key) != known.end()) continue;
    const std::string_view meant = nearest(entry.key, known);
    problem(entry.at, "unknown key \"" + entry.key + "\"" +
                          (meant.empty() ? "" : "; did you mean \"" + std::string(meant) + "\"?") +
                          (meant.empty() ? "; known are " + keys : ""));
  }
}

}  // namespace mapcap::policy
