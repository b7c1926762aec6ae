// Stands in for the confiner where the build machine lacked what its programs are compiled with.
#include "broker/confine/lsm/lsm.h"

namespace mapcap::broker::confine {

std::string lsm_unavailable() {
  return "not built in: no " MAPCAP_LSM_MISSING " when mapcapd was built";
}

Result<std::unique_ptr<Confiner>> make_lsm(const LsmOptions&) {
  return failure(ErrorCode::unsupported, lsm_unavailable());
}

Result<void> start_lsm(BorrowedFd, const LsmOptions&) {
  return failure(ErrorCode::unsupported, lsm_unavailable());
}

Result<void> mark_for_lsm(BorrowedFd, const LsmOptions&) {
  return failure(ErrorCode::unsupported, lsm_unavailable());
}

Result<void> prepare_for_lsm(BorrowedFd, Backing) {
  return failure(ErrorCode::unsupported, lsm_unavailable());
}

}  // namespace mapcap::broker::confine
