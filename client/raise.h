// The library's border: a failed Result becomes an exception here and nowhere else.
#pragma once

#include <type_traits>
#include <utility>

#include "base/result.h"
#include "mapcap/error.h"
#include "mapcap/policy.h"
#include "schema/reply.h"

namespace mapcap {

Error as_error(const Failure& error);
PolicyAnswer as_answer(schema::Explained told);
[[noreturn]] void raise(const Failure& error);

template <typename T>
T value_or_raise(Result<T>&& result) {
  if (result.has_error()) raise(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(result).assume_value();
}

}  // namespace mapcap
