// Grants that a parent process passed on by the LISTEN_FDS convention: `mapcap run NAME -- CMD`, or a service
// manager.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mapcap/api.h"
#include "mapcap/grant.h"

namespace mapcap {

struct Inherited {
  std::string name;  ///< From LISTEN_FDNAMES; "unknown" where the parent gave none.
  int fd = -1;       ///< 3 and up. Still owned by the process: Grant::adopt(Fd(fd)) or duplicate it.
};

/// Every inherited descriptor. Empty when LISTEN_PID is not this process or LISTEN_FDS is not set. Reads the
/// environment: call before other threads change it. Marks the descriptors CLOEXEC.
/// Errors: `malformed` for a LISTEN_FDS that is no number.
MAPCAP_API std::vector<Inherited> inherited();

/// Takes the grant that was passed under `name` (the region's name, or the part after its last slash when
/// that is unambiguous). Each can be taken once. Errors: `not_found`, listing the names that are there.
MAPCAP_API Grant inherited(std::string_view name);

}  // namespace mapcap
