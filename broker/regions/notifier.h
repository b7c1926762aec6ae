// Tells connected clients what happens to the regions that they created or opened.
#pragma once

#include "broker/books/directory.h"
#include "schema/reply.h"

namespace mapcap::broker {

class Notifier {
 public:
  virtual ~Notifier() = default;
  /// A hint, never a promise: a client that does not read loses notices, not safety.
  virtual void notify(const Region& region, const schema::Notice& notice) = 0;
  [[nodiscard]] virtual bool connected(SessionId session) const = 0;
  /// To one session, if it still exists: the progress of its own request.
  virtual void notify(SessionId session, const schema::Notice& notice) = 0;
};

}  // namespace mapcap::broker
