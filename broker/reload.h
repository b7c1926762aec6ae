// SIGHUP: a new policy takes effect as a whole, or not at all.
#pragma once

#include "broker/config.h"
#include "broker/door/listener.h"
#include "broker/regions/regions.h"
#include "broker/report/report.h"

namespace mapcap::broker {

/// Rules, quotas and timings change; what was opened at start does not: a file whose pools, socket or state
/// differ is refused, because they take a restart. Reports either way.
void reload(const Config& config, Regions& regions, Listener& listener, Report& report);

}  // namespace mapcap::broker
