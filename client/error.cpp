#include "mapcap/error.h"

#include "client/raise.h"

namespace mapcap {

Error::Error(ErrorCode code, const std::string& sentence, Details details)
    : std::runtime_error(sentence), code_(code), details_(std::move(details)) {}
Error::~Error() = default;

std::string Error::detail(const std::string& key) const {
  for (const auto& [name, value] : details_) {
    if (name == key) return value;
  }
  return {};
}

Error as_error(const Failure& error) {
  Error::Details details;
  details.reserve(error.details.size());
  for (const Detail& detail : error.details) details.emplace_back(detail.key, detail.value);
  return {error.code, error.sentence, std::move(details)};
}

PolicyAnswer as_answer(schema::Explained told) {
  PolicyAnswer answer;
  if (told.refusal) answer.refusal.emplace(as_error(*told.refusal));
  PolicyGrounds& grounds = told;
  static_cast<PolicyGrounds&>(answer) = std::move(grounds);
  return answer;
}

void raise(const Failure& error) {
  throw as_error(error);
}

}  // namespace mapcap
