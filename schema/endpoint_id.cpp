#include "schema/endpoint_id.h"

#include <algorithm>

#include "base/text.h"

namespace mapcap::schema {

namespace {

bool letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool of_an_id(char c) {
  return letter_or_digit(c) || c == '.' || c == '_' || c == '-';
}

bool of_a_label(char c) {
  return of_an_id(c) || c == '/' || (c >= 'A' && c <= 'Z');
}

Failure refused(std::string_view id, const std::string& why) {
  return failure(ErrorCode::invalid,
                 "endpoint id \"" + presentable(id, 80) + "\" " + why +
                     "; use 1 to 64 of a-z 0-9 . _ -, the first a letter or a digit, for example reader-1");
}

}  // namespace

Result<void> check_endpoint_id(std::string_view id) {
  if (id.empty()) return refused(id, "is empty");
  if (id.size() > kMaxEndpointId) return refused(id, "has " + std::to_string(id.size()) + " bytes");
  const auto bad = std::find_if_not(id.begin(), id.end(), of_an_id);
  if (bad != id.end()) {
    return refused(id, "has a character that is not allowed at position " + std::to_string(bad - id.begin()));
  }
  if (!letter_or_digit(id.front())) return refused(id, "begins with '" + std::string(1, id.front()) + "'");
  return ok();
}

Result<void> check_label(const Label& label) {
  for (const std::string* text : {&label.key, &label.value}) {
    const bool fits = !text->empty() && text->size() <= kMaxLabelText &&
                      std::all_of(text->begin(), text->end(), of_a_label);
    if (fits) continue;
    return failure(ErrorCode::invalid, "label \"" + presentable(label.key, 80) + "=" +
                                           presentable(label.value, 80) +
                                           "\": a key and a value are 1 to 63 of A-Z a-z 0-9 . _ / -");
  }
  return ok();
}

std::string why_no_endpoint_matches(std::string_view pattern) {
  if (pattern.empty()) return "is empty";
  const auto bad = std::find_if_not(pattern.begin(), pattern.end(),
                                    [](char c) { return of_an_id(c) || c == '*' || c == '?'; });
  if (bad != pattern.end()) {
    return "matches no endpoint: no id has the character at position " +
           std::to_string(bad - pattern.begin());
  }
  const char first = pattern.front();
  if (!letter_or_digit(first) && first != '*' && first != '?')
    return "matches no endpoint: ids begin with a letter or a digit";
  const auto least =
      pattern.size() - static_cast<std::size_t>(std::count(pattern.begin(), pattern.end(), '*'));
  if (least > kMaxEndpointId) return "matches no endpoint: ids have at most 64 characters";
  return "";
}

}  // namespace mapcap::schema
