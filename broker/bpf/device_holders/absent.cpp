// Stands in where the program cannot be built.
#include "broker/bpf/device_holders/device_holders.h"

namespace mapcap::broker::device_holders {

Result<std::shared_ptr<Census>> load() {
  return failure(ErrorCode::unsupported,
                 "this build cannot tell who has a device; build it with clang and libbpf");
}

}  // namespace mapcap::broker::device_holders
