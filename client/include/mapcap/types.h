// What is known of regions, pools, quotas, endpoints and the broker, as plain values.
#pragma once

#include "mapcap/endpoint.h"
#include "mapcap/pool.h"
#include "mapcap/quota.h"
#include "mapcap/region.h"
#include "mapcap/service.h"
