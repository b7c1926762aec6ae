#include "policy/load/verdict.h"

#include <algorithm>
#include <cstddef>

#include "base/text.h"

namespace mapcap::policy {
namespace {

constexpr std::size_t kShownOfALine = 160;

std::string_view line_of(std::string_view text, std::uint32_t number) {
  for (; number > 1; --number) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

/// The line and a caret below the place; nothing where the line is empty, as for what a whole file lacks.
std::string excerpt(std::string_view text, Position at) {
  std::string line(line_of(text, at.line));
  if (line.ends_with('\r')) line.pop_back();
  std::replace(line.begin(), line.end(), '\t', ' ');
  if (line.find_first_not_of(' ') == std::string::npos || at.column > kShownOfALine) return "";
  const std::string number = std::to_string(at.line);
  const std::string margin(number.size() < 5 ? 5 - number.size() : 0, ' ');
  return margin + number + " | " + presentable(line, kShownOfALine) + "\n" +
         std::string(margin.size() + number.size(), ' ') + " | " + std::string(at.column - 1, ' ') + "^\n";
}

std::string counted(std::size_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

}  // namespace

std::string verdict_on(std::string_view text, const std::string& source, const Examined& examined) {
  std::string out;
  std::size_t errors = 0;
  for (const Problem& problem : examined.problems) {
    const bool error = problem.severity == Severity::error;
    errors += error ? 1 : 0;
    out += source + ":" + std::to_string(problem.at.line) + ":" + std::to_string(problem.at.column) +
           (error ? ": error: " : ": warning: ") + problem.message + "\n" + excerpt(text, problem.at);
  }
  const std::size_t warnings = examined.problems.size() - errors;
  const std::string also = warnings == 0 ? "" : counted(warnings, "warning");
  if (errors > 0) {
    return out + source + " has " + counted(errors, "error") + (also.empty() ? "" : " and " + also) +
           "; a broker would refuse it\n";
  }
  return out + source + " is valid: " + counted(examined.policy->pools().size(), "pool") + ", " +
         counted(examined.policy->rules().size(), "rule") + ", " +
         counted(examined.policy->quotas().size(), "quota") + (also.empty() ? "" : "; " + also) + "\n";
}

}  // namespace mapcap::policy
