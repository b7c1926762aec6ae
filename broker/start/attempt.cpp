#include "broker/start/attempt.h"

#include <unistd.h>

#include "broker/parts.h"

namespace mapcap::broker {

Attempt::~Attempt() {
  ::unlink(socket_.c_str());
  if (keeper_ != nullptr && !keeper_->adopted()) keeper_->shut_down();
}

Result<keeper::Keeper*> Attempt::keeper(const keeper::KeeperOptions& options) {
  MAPCAP_TRY(keeper_, parts::keeper(options));
  return keeper_.get();
}

}  // namespace mapcap::broker
