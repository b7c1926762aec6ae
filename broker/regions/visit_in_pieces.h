// A walk over all regions, in pieces between which others have the loop.
#pragma once

#include "broker/regions/regions.h"
#include "broker/wait/slice.h"

namespace mapcap::broker {

/// What comes and goes meanwhile may be seen or not.
template <typename Visit>
Task<void> Regions::visit_in_pieces(Visit visit) {
  Directory::Position position;
  for (bool more = true; more;) {
    Slice slice(parts_.loop.time());
    more = false;
    parts_.directory.visit_from(position, [&](const Region& region) {
      position = {region.record.name, region.id().value};
      visit(region);
      more = slice.over();
      return !more;
    });
    if (more) co_await parts_.loop.give_way();
  }
}

}  // namespace mapcap::broker
