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

std::string in_words(std::string_view text, const std::string& source, const std::vector<Problem>& problems) {
  std::string out;
  for (const Problem& problem : problems) {
    out += source + ":" + std::to_string(problem.at.line) + ":" + std::to_string(problem.at.column) +
           (problem.severity == Severity::error ? ": error: " : ": warning: ") + problem.message + "\n" +
           excerpt(text, problem.at);
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
