// libmapcap: memory that can be mmapped and nothing else.
//
//   auto client = mapcap::Client::connect();
//   auto grant = client.create({.name = "alice/frames", .size = 64 << 20}, mapcap::Access::read_write);
//   mapcap::Mapping mapping(grant);
//   mapping.writable()[0] = std::byte{1};
//
// Everything throws mapcap::Error. Nothing here needs Boost or Cap'n Proto.
#pragma once

#if __cplusplus <= 201703L
#error "mapcap's C++ interface needs C++20 (-std=c++20); for older C++ and for C there is <mapcap.h>"
#else

#include "mapcap/client.h"
#include "mapcap/error.h"
#include "mapcap/fd.h"
#include "mapcap/grant.h"
#include "mapcap/guard.h"
#include "mapcap/inherited.h"
#include "mapcap/mapping.h"
#include "mapcap/policy.h"
#include "mapcap/types.h"

#endif
