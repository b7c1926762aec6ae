// The protocol's values as the library's, and back. Enumerators share their numbers (asserted in
// convert.cpp).
#pragma once

#include "base/result.h"
#include "mapcap/client.h"
#include "mapcap/error.h"
#include "mapcap/types.h"
#include "schema/request.h"

namespace mapcap {

/// The library's border: a failed Result becomes an exception here and nowhere else.
[[noreturn]] void raise(const Failure& error);
template <typename T>
T value_or_raise(Result<T>&& result) {
  if (result.has_error()) raise(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(result).assume_value();
}

Access to_wire(Access access);
schema::Create to_wire(const RegionSpec& spec, std::optional<Access> grant);
Limits to_wire(const Limits& limits);
SubjectKind to_wire(SubjectKind subject);

Access from_wire(Access access);
RegionInfo from_wire(const schema::RegionInfo& region);
RegionDetails from_wire(const schema::Shown& shown);
PoolInfo from_wire(const schema::PoolInfo& pool);
QuotaInfo from_wire(const schema::QuotaInfo& quota);
/// Progress has no counterpart: it belongs to a call.
std::optional<Notice> from_wire(const schema::Notice& notice);

}  // namespace mapcap
