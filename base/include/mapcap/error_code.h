// Why something failed: one numbering for the protocol, the broker and the library.
#pragma once

#include <cstdint>

#include "mapcap/api.h"

namespace mapcap {

/// Why something failed. The numbers are the protocol's and never change.
enum class ErrorCode : std::uint16_t {
  malformed = 1,     ///< The other side sent what the protocol does not allow.
  version = 2,       ///< No protocol version that both sides speak.
  denied = 3,        ///< The policy, or the region's mode, does not allow it.
  not_found = 4,     ///< No such region, pool or quota.
  exists = 5,        ///< The name is taken.
  over_quota = 6,    ///< A quota would be exceeded; details: slot, used, limit, asked.
  pool_full = 7,     ///< The pool's capacity would be exceeded.
  invalid = 8,       ///< An argument is outside its range or makes no sense here.
  cache_mode = 9,    ///< The required cache mode cannot be met; the sentence lists what can be.
  unsupported = 10,  ///< The pool, the confinement or the machine cannot do this.
  busy = 11,         ///< The region is being revoked, drained or scrubbed.
  lost = 12,         ///< A volatile region whose memory no longer exists.
  timed_out = 13,    ///< A deadline passed.
  io = 14,           ///< The kernel or a device refused; details: errno, call.
  exhausted = 15,    ///< A limit per client on connections, requests or descriptors.
  unavailable = 16,  ///< No broker answers at the socket.
  revoked = 1000,    ///< Local: the mapping was taken away while it was being used.
};

/// The short stable name of a code: "over_quota".
MAPCAP_API const char* name_of(ErrorCode code);

}  // namespace mapcap
