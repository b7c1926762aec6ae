// Inside the codec only: what the broker says of itself, which is long enough for a file.
#pragma once

#include "schema/wire.h"

namespace mapcap::schema::codec {

Result<BrokerStatus> read_status(wire::Status::Reader reader);
/// Texts are made presentable and cut to their limits.
void write_status(const BrokerStatus& status, wire::Status::Builder builder);

}  // namespace mapcap::schema::codec
