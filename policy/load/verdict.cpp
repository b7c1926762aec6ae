#include "policy/load/verdict.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/pieces.h"
#include "base/text.h"

namespace mapcap::policy {
namespace {

constexpr std::size_t kShownOfALine = 160;

/// The line and a caret below the place; nothing where the line is empty, as for what a whole file lacks.
std::string excerpt(const std::vector<std::string_view>& lines, Position at) {
  std::string line(at.line <= lines.size() ? lines[at.line - 1] : std::string_view());
  if (line.ends_with('\r')) line.pop_back();
  std::replace(line.begin(), line.end(), '\t', ' ');
  if (line.find_first_not_of(' ') == std::string::npos || at.column > kShownOfALine) return "";
  const std::string number = std::to_string(at.line);
  const std::string margin(number.size() < 5 ? 5 - number.size() : 0, ' ');
  return margin + number + " | " + presentable(line, kShownOfALine) + "\n" +
         std::string(margin.size() + number.size(), ' ') + " | " + std::string(at.column - 1, ' ') + "^\n";
}

}  // namespace

std::string in_words(std::string_view text, const std::string& source, const std::vector<Problem>& problems) {
  std::string out;
  const std::vector<std::string_view> lines = lines_of(text);
  for (const Problem& problem : problems) {
    out += source + ":" + std::to_string(problem.at.line) + ":" + std::to_string(problem.at.column) +
           (problem.severity == Severity::error ? ": error: " : ": warning: ") + problem.message + "\n" +
           excerpt(lines, problem.at);
  }
  return out;
}

std::string verdict_on(std::string_view text, const std::string& source, const Examined& examined) {
  const std::string out = in_words(text, source, examined.problems);
  const auto errors = static_cast<std::size_t>(
      std::count_if(examined.problems.begin(), examined.problems.end(),
                    [](const Problem& problem) { return problem.severity == Severity::error; }));
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
