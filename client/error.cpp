#include "mapcap/error.h"

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

}  // namespace mapcap
