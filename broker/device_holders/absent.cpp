// Stands in where the program cannot be built.
#include "broker/device_holders/device_holders.h"

namespace mapcap::broker::device_holders {

schema::Result<std::shared_ptr<Census>> load() {
  return schema::error(schema::ErrorCode::unsupported,
                       "this build cannot tell who has a device; build it with clang and libbpf");
}

}  // namespace mapcap::broker::device_holders
