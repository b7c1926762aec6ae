#include "mapcap/error.h"

#include "mapcap/types.h"
#include "schema/request.h"
#include "schema/result.h"

namespace mapcap {

const char* name_of(ErrorCode code) {
  if (code == ErrorCode::revoked) return "revoked";
  // The schema's names are literals, so their data ends with a NUL.
  return schema::name_of(static_cast<schema::ErrorCode>(code)).data();
}

Error::Error(ErrorCode code, const std::string& sentence, Details details)
    : std::runtime_error(sentence), code_(code), details_(std::move(details)) {}
Error::~Error() = default;

std::string Error::detail(const std::string& key) const {
  for (const auto& [name, value] : details_) {
    if (name == key) return value;
  }
  return {};
}

std::string_view to_string(Access value) {
  return schema::to_string(static_cast<schema::Access>(value));
}
std::string_view to_string(CacheMode value) {
  return schema::to_string(static_cast<schema::CacheMode>(value));
}
std::string_view to_string(CacheMechanism value) {
  return schema::to_string(static_cast<schema::CacheMechanism>(value));
}
std::string_view to_string(Granularity value) {
  return schema::to_string(static_cast<schema::Granularity>(value));
}
std::string_view to_string(PersistenceDomain value) {
  return schema::to_string(static_cast<schema::PersistenceDomain>(value));
}
std::string_view to_string(Confinement value) {
  return schema::to_string(static_cast<schema::Confinement>(value));
}
std::string_view to_string(SealKind value) {
  return schema::to_string(static_cast<schema::SealKind>(value));
}
std::string_view to_string(RegionState value) {
  return schema::to_string(static_cast<schema::RegionState>(value));
}

}  // namespace mapcap
