// Results: what a peer, an administrator or the machine can cause travels as a value.
//
// Result<T> is either a T or an Error; an Error is what goes over the wire to the client: a code for
// programs, one sentence for people, and details (slot, used, limit, asked, ...) for both. A broken invariant
// is not an Error: it stops the process with MAPCAP_INVARIANT.
#pragma once

#include <boost/outcome/basic_result.hpp>
#include <boost/outcome/policy/terminate.hpp>
#include <boost/outcome/try.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mapcap::schema {

/// Stable numbers: they are the wire's ErrorCode. Append only.
enum class ErrorCode : std::uint16_t {
  malformed = 1,     ///< The message does not decode, or breaks a hard limit of the protocol.
  version = 2,       ///< No common protocol version.
  denied = 3,        ///< The policy, or the region's mode, does not allow it.
  not_found = 4,     ///< No such region, pool or quota.
  exists = 5,        ///< The name is taken.
  over_quota = 6,    ///< A quota of the caller would be exceeded.
  pool_full = 7,     ///< The pool's capacity would be exceeded.
  invalid = 8,       ///< An argument is outside its range or makes no sense here.
  cache_mode = 9,    ///< The required cache mode cannot be met.
  unsupported = 10,  ///< The pool, confinement or machine cannot do this.
  busy = 11,         ///< Being revoked, drained or scrubbed; or the client asks too much at once.
  lost = 12,         ///< A region whose memory is not there any more.
  timed_out = 13,    ///< A deadline passed (the keeper, a drain, a backing device).
  io = 14,           ///< The kernel or a device refused: the sentence names the call.
  exhausted = 15,    ///< A limit per client on connections, requests or descriptors.
  unavailable = 16,  ///< The broker cannot be reached or is shutting down.
};

/// One fact of an error, for programs: {"slot", "user alice in pool dram"}, {"asked", "1048576"}.
struct Detail {
  std::string key;
  std::string value;
  bool operator==(const Detail&) const = default;
};

struct Error {
  ErrorCode code = ErrorCode::invalid;
  std::string
      sentence;  ///< One sentence that says what is wrong, where, and what to do. No trailing newline.
  std::vector<Detail> details;
  bool operator==(const Error&) const = default;
};

namespace outcome = BOOST_OUTCOME_V2_NAMESPACE;

/// Asking a failed Result for its value is a bug of ours, and stops the process.
template <typename T>
using Result = outcome::basic_result<T, Error, outcome::policy::terminate>;

inline Error error(ErrorCode code, std::string sentence, std::vector<Detail> details = {}) {
  return Error{code, std::move(sentence), std::move(details)};
}

/// An Error for a failed system call: "<what>: <strerror(errno_value)>", with details errno and call.
/// Defined in result.cpp.
Error io_error(std::string_view what, int errno_value);

/// The short stable name of a code, for logs and JSON: "over_quota".
std::string_view name_of(ErrorCode code);

inline outcome::success_type<void> ok() {
  return outcome::success();
}

}  // namespace mapcap::schema

/// MAPCAP_TRY(auto x, expr): x is the value, or the enclosing function returns the error.
/// MAPCAP_TRY_VOID(expr): the same for Result<void>. MAPCAP_CO_TRY / _VOID: in a coroutine.
#define MAPCAP_TRY(declaration, ...) BOOST_OUTCOME_TRY(declaration, __VA_ARGS__)
#define MAPCAP_TRY_VOID(...) BOOST_OUTCOME_TRYV(__VA_ARGS__)
#define MAPCAP_CO_TRY(declaration, ...) BOOST_OUTCOME_CO_TRY(declaration, __VA_ARGS__)
#define MAPCAP_CO_TRY_VOID(...) BOOST_OUTCOME_CO_TRYV(__VA_ARGS__)

/// A broken invariant: says where and stops. Never used for what a peer, a file or the kernel can cause.
#define MAPCAP_INVARIANT(condition, message)                                                          \
  do {                                                                                                \
    if (!(condition)) {                                                                               \
      std::fprintf(stderr, "mapcap: invariant broken at %s:%d: %s\n", __FILE__, __LINE__, (message)); \
      std::abort();                                                                                   \
    }                                                                                                 \
  } while (false)
