#include "policy/document.h"

#include <algorithm>

#include "schema/text.h"

// Header-only and without exceptions: parse errors are values, and the broker needs no further shared
// library.
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 16  // a policy needs 3; reading recurses
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#endif
#include <toml++/toml.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace mapcap::policy {
namespace {

Position position_of(const toml::source_region& region) {
  return {region.begin.line, region.begin.column};
}

Node convert(const toml::node& node);

Table convert(const toml::table& table) {
  Table entries;
  for (const auto& [key, value] : table) {
    entries.push_back({std::string(key.str()), position_of(key.source()), convert(value)});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.at < b.at; });
  return entries;
}

Node convert(const toml::node& node) {
  Node result{position_of(node.source()), Alien{}};
  if (const auto* table = node.as_table()) result.value = convert(*table);
  if (const auto* text = node.as_string()) result.value = text->get();
  if (const auto* number = node.as_integer()) result.value = number->get();
  if (const auto* flag = node.as_boolean()) result.value = flag->get();
  if (const auto* list = node.as_array()) {
    Array elements;
    for (const toml::node& element : *list) elements.push_back(convert(element));
    result.value = std::move(elements);
  }
  return result;
}

}  // namespace

std::string_view kind_of(const Node& node) {
  struct Names {
    std::string_view operator()(const Alien&) const { return "a date or a fraction"; }
    std::string_view operator()(const std::string&) const { return "a string"; }
    std::string_view operator()(std::int64_t) const { return "a number"; }
    std::string_view operator()(bool) const { return "true or false"; }
    std::string_view operator()(const Array&) const { return "a list"; }
    std::string_view operator()(const Table&) const { return "a table"; }
  };
  return std::visit(Names{}, node.value);
}

schema::Result<Table> parse_document(std::string_view text, const std::string& source) {
  const toml::parse_result parsed = toml::parse(text, std::string_view(source));
  if (!parsed) {
    const Position at = position_of(parsed.error().source());
    return schema::error(schema::ErrorCode::invalid,
                         source + ":" + std::to_string(at.line) + ":" + std::to_string(at.column) + ": " +
                             schema::presentable(parsed.error().description(), 400));
  }
  return convert(parsed.table());
}

}  // namespace mapcap::policy
