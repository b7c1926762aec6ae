// Which cache mode a mapping really has: read from the page table, since nothing else tells. smaps shows no
// attribute, pat_memtype_list shows reservations, and the first mapper of device memory silently wins.
//
// What an MTRR makes of it is not seen: an entry says write-back where the platform makes it write-through.
#pragma once

#include <functional>

#include "base/result.h"
#include "mapcap/fd.h"
#include "mapcap/words.h"

namespace mapcap::broker::page_attribute {

/// The mode in the entry that maps `address`, which must be mapped and stay so during the call. x86-64, by a
/// BPF program that runs once; needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN, before the system call filter.
/// Errors: `unsupported` where the kernel or the build cannot, `invalid` for an address without a page.
Result<CacheMode> mapped(const void* address);

/// The mode that shared mappings of the file get: maps its beginning for a moment. Errors: as
/// above, `io`.
Result<CacheMode> mapped_from(BorrowedFd file);

/// mapped_from() for later: loaded now, before the system call filter, it works under it. Thread-safe.
/// Errors: `unsupported`.
using Reader = std::function<Result<CacheMode>(BorrowedFd)>;
Result<Reader> load();

}  // namespace mapcap::broker::page_attribute
