// Inside the loader: one table of the file, read key by key, with every problem collected at its position.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "policy/load/document.h"

namespace mapcap::policy {

/// What is wrong or odd in one file.
class Problems {
 public:
  explicit Problems(std::string source) : source_(std::move(source)) {}

  void add(Position at, std::string what) { add(Severity::error, at, std::move(what)); }
  void warn(Position at, std::string what) { add(Severity::warning, at, std::move(what)); }
  void add(Severity severity, Position at, std::string what);
  [[nodiscard]] bool no_errors() const;
  /// In the file's order.
  [[nodiscard]] std::vector<Problem> found() const;

  [[nodiscard]] const std::string& source() const { return source_; }
  /// "policy.toml:12"
  [[nodiscard]] std::string where(Position at) const { return source_ + ":" + std::to_string(at.line); }

 private:
  std::string source_;
  std::vector<Problem> found_;
};

template <typename T>
struct Located {
  T value{};
  Position at;
};

/// Looks at a table, whose keys are `known` once they were asked for; the rest is unknown, which is a
/// problem. A reader returns nothing when the key is absent or wrong; a wrong one is then already among the
/// problems.
class Section {
 public:
  Section(const Table& table, std::string title, Position at, Problems& problems)
      : table_(table), title_(std::move(title)), at_(at), problems_(problems) {}

  [[nodiscard]] Position at() const { return at_; }
  [[nodiscard]] const std::string& title() const { return title_; }
  [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
  /// Where the key's value is, or the section itself.
  [[nodiscard]] Position at(std::string_view key) const;
  [[nodiscard]] Problems& problems() const { return problems_; }
  void problem(Position at, const std::string& what) { problems_.add(at, title_ + ": " + what); }
  void warning(Position at, const std::string& what) { problems_.warn(at, title_ + ": " + what); }

  /// The raw value, for a key that takes several kinds.
  const Node* node(std::string_view key);
  std::optional<std::string> text(std::string_view key);
  std::optional<bool> flag(std::string_view key);
  std::optional<std::uint64_t> number(std::string_view key, std::uint64_t least, std::uint64_t most);
  /// A string with a unit, or a number of bytes.
  std::optional<ByteCount> bytes(std::string_view key);
  /// A string with a unit, or a number of seconds.
  std::optional<std::chrono::nanoseconds> duration(std::string_view key, std::chrono::nanoseconds least,
                                                   std::chrono::nanoseconds most);
  /// A list of strings: not empty, none twice.
  std::vector<Located<std::string>> texts(std::string_view key);

  /// The strings of a list that was read before: no problem is told twice.
  [[nodiscard]] std::vector<Located<std::string>> texts_again(std::string_view key) const;

  /// A string that `parse` understands.
  template <typename T>
  std::optional<T> word(std::string_view key, Result<T> (*parse)(std::string_view)) {
    const std::optional<std::string> value = text(key);
    if (!value) return std::nullopt;
    return parsed(at(key), parse(*value));
  }
  /// A list of strings that `parse` understands.
  template <typename T>
  std::vector<T> words(std::string_view key, Result<T> (*parse)(std::string_view)) {
    std::vector<T> values;
    for (const Located<std::string>& element : texts(key)) {
      const std::optional<T> value = parsed(element.at, parse(element.value));
      if (value) values.push_back(*value);
    }
    return values;
  }

  /// Reports every key that nobody asked for.
  void finish();

 private:
  [[nodiscard]] const Entry* find(std::string_view key) const;
  void wrong_kind(std::string_view key, const Node& found, std::string_view wanted);
  template <typename T>
  std::optional<T> parsed(Position at, Result<T> result) {
    if (result) return std::move(result).assume_value();
    problem(at, result.assume_error().sentence);
    return std::nullopt;
  }

  const Table& table_;
  std::string title_;
  Position at_;
  Problems& problems_;
  std::vector<std::string_view> known_;
};

}  // namespace mapcap::policy
