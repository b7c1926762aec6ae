// Where mapcapd_faults dies, or goes no further.
//
// A step is named right after it was taken, before anything is done with what it brought. At which one the
// broker ends is said by either of:
//
//     MAPCAP_DIE_AT=cut         SIGKILL after the first cut
//     MAPCAP_DIE_AT=held:2      after the second hold
//
//     MAPCAP_STEP_PAGE=FILE     a page of lines, which others add to while the broker runs:
//         die POOL STEP         SIGKILL
//         stop POOL STEP        Whoever took this step, a request or a recovery, goes no further, as if the
//         machine had lost
//                               power; what has to do with other pools goes on. "stop" then becomes "done".
//
// filling taken carved named held recorded issued (taken and named: of a blank) | unwritable published told | revoking zeroed cut draining scrubbing dropped freed erased | reattached
// swept In a divided region also: seeded sized claimed enabled, while a device is made; disabled emptied
// deleted, while one goes. Of endpoints: endpoint-active endpoint-ending endpoint-ended endpoint-erased.
#pragma once

#include <string>
#include <string_view>

namespace mapcap::broker::parts {

/// From any thread. Does not return at a step to die or stop at.
void step(std::string_view name, std::string_view pool);

/// The same for a coroutine, which suspends itself for good when this is true.
[[nodiscard]] bool stops_at(std::string_view name, std::string_view pool);

/// The pool that this thread acts for while this lives: libraries that act deeper down do not know it.
class Acting {
 public:
  explicit Acting(std::string pool);
  Acting(const Acting&) = delete;
  Acting& operator=(const Acting&) = delete;
  ~Acting();
  [[nodiscard]] static const std::string& pool();
};

}  // namespace mapcap::broker::parts
