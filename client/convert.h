// What the protocol says of regions, pools and quotas, as the library's values.
#pragma once

#include "mapcap/client.h"
#include "mapcap/error.h"
#include "mapcap/types.h"
#include "schema/request.h"

namespace mapcap {

schema::Create to_wire(const RegionSpec& spec, std::optional<Access> grant);

schema::EndpointSpec to_wire(const EndpointSpec& spec);
EndpointInfo from_wire(const schema::EndpointInfo& endpoint);

RegionInfo from_wire(const schema::RegionInfo& region);
RegionDetails from_wire(const schema::Shown& shown);
PoolInfo from_wire(const schema::PoolInfo& pool);
QuotaInfo from_wire(const schema::QuotaInfo& quota);
BrokerStatus from_wire(const schema::Status& status);
ReloadOutcome from_wire(schema::Reloaded reloaded);
PolicyAnswer from_wire(schema::Explained explained);
/// Progress has no counterpart: it belongs to a call.
std::optional<Notice> from_wire(const schema::Notice& notice);

}  // namespace mapcap
