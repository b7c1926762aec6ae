#include "broker/books/releases.h"

namespace mapcap::broker {

void Releases::take_some() {
  for (std::size_t taken = 0; taken < kAtOnce && !waiting_.empty(); ++taken) {
    const confine::GrantId grant = waiting_.front();
    waiting_.pop_front();
    const Meter::Scope scope(loop_.meter(), books_.account_of(grant));
    books_.take_off(grant);
  }
  posted_ = !waiting_.empty();
  if (posted_) loop_.post([this] { take_some(); });
}

}  // namespace mapcap::broker
