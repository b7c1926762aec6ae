// Stands in where the program cannot be built, or would not fit the processor.
#include "broker/bpf/page_attribute/page_attribute.h"

namespace mapcap::broker::page_attribute {

Result<CacheMode> mapped(const void*) {
  return failure(ErrorCode::unsupported,
                 "this build cannot read page tables; build for x86-64, with clang and libbpf");
}

Result<CacheMode> mapped_from(BorrowedFd) {
  return mapped(nullptr);
}

Result<Reader> load() {
  return mapped(nullptr).error();
}

}  // namespace mapcap::broker::page_attribute
