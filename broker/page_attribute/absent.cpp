// Stands in where the program cannot be built, or would not fit the processor.
#include "broker/page_attribute/page_attribute.h"

namespace mapcap::broker::page_attribute {

schema::Result<schema::CacheMode> mapped(const void*) {
  return schema::error(schema::ErrorCode::unsupported,
                       "this build cannot read page tables; build for x86-64, with clang and libbpf");
}

schema::Result<schema::CacheMode> mapped_from(schema::BorrowedFd) {
  return mapped(nullptr);
}

schema::Result<Reader> load() {
  return mapped(nullptr).error();
}

}  // namespace mapcap::broker::page_attribute
