// What a confiner made before anybody asked: memory without a size, and the first grant of it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "base/result.h"
#include "base/units.h"
#include "mapcap/fd.h"
#include "mapcap/words.h"

namespace mapcap::broker::confine {

/// Of whom blanks are made, and for whom they are kept.
struct BlankSource {
  const void* pool = nullptr;          ///< Tells one source's from another's.
  std::function<Result<Fd>()> memory;  ///< Pool::blank; from any thread, as long as it is kept.
  std::function<RegionId()> next_id;   ///< The ledger's. Loop only, and only during the call.
};

/// Whoever takes one gives it a size, has its confiner name it, records the region, and takes the grant out. Before
/// keep() its end undoes all that was prepared. Nobody is charged for one that nobody has taken.
class Blank {
 public:
  Blank(RegionId number, std::uint64_t grant_id, Access grant_rights, Fd size_less, Fd open)
      : region(number),
        grant(grant_id),
        rights(grant_rights),
        memory(std::move(size_less)),
        clone(std::move(open)) {}
  Blank(Blank&& other) noexcept
      : region(other.region),
        grant(other.grant),
        rights(other.rights),
        memory(std::move(other.memory)),
        clone(std::move(other.clone)),
        made_by(std::move(other.made_by)),
        place(other.place),
        undo(std::exchange(other.undo, nullptr)) {}
  Blank& operator=(Blank&&) = delete;
  Blank(const Blank&) = delete;
  ~Blank() {
    clone.reset();
    if (undo) undo();
  }

  /// The region exists: whoever ends it lets go of what was prepared.
  void keep() { undo = nullptr; }

  RegionId region;          ///< The number of the region that it is to be.
  std::uint64_t grant = 0;  ///< GrantId
  Access rights = Access::read_only;
  Fd memory;
  Fd clone;  ///< The grant.

  // The confiner's.
  std::weak_ptr<const void> made_by;  ///< Through which keeper.
  std::uint32_t place = 0;
  std::function<void()> undo;
};

}  // namespace mapcap::broker::confine
