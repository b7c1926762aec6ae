// What the memory pools take together, of what the machine has. Not part of loading: a policy may be written
// for another machine than the one that reads it.
#pragma once

#include <optional>
#include <vector>

#include "policy/model.h"

namespace mapcap::policy {

/// What a capacity comes to, of `whole`; a percentage is rounded down to whole pages.
ByteCount resolved(const Capacity& capacity, ByteCount whole);

/// Errors: `invalid` when the memory pools, absolute and percent together, are more than `memory`; at the
/// place of the pool that passes it, with the sum, each pool's part and the machine's figure.
Result<void> check_machine(const std::vector<PoolSettings>& pools, ByteCount memory);

/// The same as a problem of the file.
std::optional<Problem> beyond_machine(const std::vector<PoolSettings>& pools, ByteCount memory);

}  // namespace mapcap::policy
