#include "broker/ledger/medium/medium.h"

namespace mapcap::broker::ledger {

std::string_view to_string(Step step) {
  switch (step) {
    case Step::record:
      return "record";
    case Step::promotion:
      return "promotion";
    case Step::tombstone:
      return "tombstone";
    case Step::release:
      return "release";
    case Step::retry:
      return "retry";
    case Step::put:
      return "put";
    case Step::erase:
      return "erase";
    case Step::closing:
      return "closing";
    case Step::superblock_first:
      return "superblock_first";
    case Step::superblock_second:
      return "superblock_second";
    case Step::start_first:
      return "start_first";
    case Step::start_second:
      return "start_second";
    case Step::adopt:
      return "adopt";
    case Step::recovery_release:
      return "recovery_release";
  }
  return "unknown";
}

Result<void> settle(Medium& medium, Step step) {
  if (medium.granularity() != Granularity::page) {
    medium.fence(step);
    return ok();
  }
  if (const std::optional<Range> range = medium.take_flushed()) return medium.sync(*range, step);
  return ok();
}

}  // namespace mapcap::broker::ledger
