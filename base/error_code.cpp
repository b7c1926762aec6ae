#include "mapcap/error_code.h"

namespace mapcap {

const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::malformed:
      return "malformed";
    case ErrorCode::version:
      return "version";
    case ErrorCode::denied:
      return "denied";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::exists:
      return "exists";
    case ErrorCode::over_quota:
      return "over_quota";
    case ErrorCode::pool_full:
      return "pool_full";
    case ErrorCode::invalid:
      return "invalid";
    case ErrorCode::cache_mode:
      return "cache_mode";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::busy:
      return "busy";
    case ErrorCode::lost:
      return "lost";
    case ErrorCode::timed_out:
      return "timed_out";
    case ErrorCode::io:
      return "io";
    case ErrorCode::exhausted:
      return "exhausted";
    case ErrorCode::unavailable:
      return "unavailable";
    case ErrorCode::revoked:
      return "revoked";
  }
  return "unknown";
}

}  // namespace mapcap
