// Results: what a peer, an administrator or the machine can cause travels as a value.
//
// Result<T> is either a T or a Failure; a Failure is what goes over the wire to the client: a code for
// programs, one sentence for people, and details (slot, used, limit, asked, ...) for both. A broken invariant
// is no Failure: it stops the process with MAPCAP_INVARIANT.
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

#include "mapcap/error_code.h"

namespace mapcap {

/// One fact of an error, for programs: {"slot", "user alice in pool dram"}, {"asked", "1048576"}.
struct Detail {
  std::string key;
  std::string value;
  bool operator==(const Detail&) const = default;
};

struct Failure {
  ErrorCode code = ErrorCode::invalid;
  std::string
      sentence;  ///< One sentence that says what is wrong, where, and what to do. No trailing newline.
  std::vector<Detail> details;
  bool operator==(const Failure&) const = default;
};

namespace outcome = BOOST_OUTCOME_V2_NAMESPACE;

/// Asking a failed Result for its value is a bug of ours, and stops the process.
template <typename T>
using Result = outcome::basic_result<T, Failure, outcome::policy::terminate>;

inline Failure failure(ErrorCode code, std::string sentence, std::vector<Detail> details = {}) {
  return Failure{code, std::move(sentence), std::move(details)};
}

/// A Failure for a failed system call: "<what>: <strerror(errno_value)>", with details errno and call.
/// Defined in result.cpp.
Failure io_error(std::string_view what, int errno_value);

inline outcome::success_type<void> ok() {
  return outcome::success();
}

}  // namespace mapcap

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
