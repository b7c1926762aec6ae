// Whether the state that a region is in lets a verb go on. The verbs ask it, and what explains them.
#pragma once

#include "base/result.h"
#include "broker/books/directory.h"

namespace mapcap::broker {

/// For a grant. Errors: `lost`, `busy`.
Result<void> check_grantable(const Region& region);
/// For a writable one. Errors: `denied` when nobody may write the region any more, `busy` while somebody sees to that.
Result<void> check_writable(const Region& region);
/// Errors: `busy`.
Result<void> check_renewable(const Region& region);

}  // namespace mapcap::broker
