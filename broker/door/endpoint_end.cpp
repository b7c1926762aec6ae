// How an endpoint ends, step by step, and from wherever a broker's death left it.
#include <algorithm>

#include "broker/door/endpoints.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using schema::EndpointEnded;

namespace {

constexpr std::chrono::nanoseconds kRetryAtMost = 5s;

}  // namespace

Task<Result<Delivery>> Endpoints::end(Caller caller, schema::EndpointEnd ask) {
  MAPCAP_CO_TRY(const One* one, find_for(caller, ask.id));
  MAPCAP_CO_TRY(const EndpointEnded ended, co_await finish(one->record.number));
  Delivery delivery;
  delivery.body = ended;
  co_return delivery;
}

Task<Result<EndpointEnded>> Endpoints::finish(std::uint64_t number) {
  One* one = find(number);
  if (one == nullptr) co_return EndpointEnded{};
  while (one->ending) {
    const std::shared_ptr<Event> changed = one->changed;
    co_await changed->wait();
    one = find(number);
    if (one == nullptr) co_return EndpointEnded{};
    if (one->record.state == EndpointState::active)
      co_return failure(ErrorCode::io, "the end that was under way failed; try again");
  }
  if (one->record.state == EndpointState::ended) co_return one->result;
  one->ending = true;
  one->authority->ended = true;  // At once, while the ledger writes.
  if (one->record.state == EndpointState::active) {
    one->record.state = EndpointState::ending;
    Result<void> recorded = co_await parts_.ledger.put_endpoint(one->record);
    if (!recorded) {
      one->record.state = EndpointState::active;
      one->authority->ended = false;
      one->ending = false;
      one->changed->notify();
      co_return recorded.error();
    }
  }
  co_await leave_nothing(*one);
  one->record.state = EndpointState::ended;
  for (auto pause = std::chrono::nanoseconds(100ms);; pause = std::min(pause * 2, kRetryAtMost)) {
    const Result<void> recorded = co_await parts_.ledger.put_endpoint(one->record);
    if (recorded) break;
    // All of it has ended, whatever the record says, and a restart would find nothing left to do.
    co_await parts_.loop.sleep(pause);
  }
  by_id_.erase(one->record.id);
  one->ending = false;
  one->changed->notify();
  const EndpointEnded result = one->result;
  spawn(forget_when_free(number));
  co_return result;
}

/// Its time has come, or a broker's death came in between.
Task<void> Endpoints::finish_in_background(std::uint64_t number) {
  for (auto pause = std::chrono::nanoseconds(100ms);; pause = std::min(pause * 2, kRetryAtMost)) {
    const Result<EndpointEnded> ended = co_await finish(number);
    if (ended) co_return;
    co_await parts_.loop.sleep(pause);
  }
}

/// Every step can be repeated, and finds nothing to do when it was done.
Task<void> Endpoints::leave_nothing(One& one) {
  const std::uint32_t principal = one.record.principal;
  parts_.listener.shut(principal);
  if (Result<void> removed = directory_.remove(one.record.id); !removed)
    parts_.report.endpoint_unserved(one.record.id, removed.error());
  co_await parts_.listener.dismiss(principal);
  for (auto pause = std::chrono::nanoseconds(100ms);; pause = std::min(pause * 2, kRetryAtMost)) {
    const std::vector<RegionId> owned = co_await parts_.regions.owned_by(principal);
    if (owned.empty()) co_return;
    bool refused = false;
    for (const RegionId region : owned) {
      if (one.record.on_end == OnEnd::keep) {
        const Result<void> kept = co_await parts_.regions.hand_over(region, one.authority->maker);
        one.result.kept += kept ? 1 : 0;
        if (kept) continue;
        if (kept.error().code == ErrorCode::io) {
          refused = true;
          continue;
        }
      }
      const Result<schema::Revoked> revoked = co_await parts_.regions.take_away(region);
      // Quarantined memory goes when it can, and nobody gets it meanwhile.
      refused = refused || (!revoked && revoked.error().code == ErrorCode::io);
      one.result.revoked += revoked ? 1 : 0;
      if (revoked) one.result.held.value += revoked.value().held.value;
      co_await parts_.loop.give_way();
    }
    // The ledger takes no changes: they are wanted again when it does.
    if (refused) co_await parts_.loop.sleep(pause);
  }
}

/// Holders of what it was granted may live on for as long as they please, and are charged to it and its maker.
Task<void> Endpoints::forget_when_free(std::uint64_t number) {
  for (auto pause = std::chrono::nanoseconds(50ms);; pause = std::min(pause * 2, kRetryAtMost)) {
    const std::uint32_t principal = find(number)->record.principal;
    const Amount used = parts_.quotas.used_by(principal);
    if (used.bytes == 0 && used.regions == 0 && used.grants == 0 && used.connections == 0) {
      const bool named = co_await parts_.regions.owns_any(principal);
      if (!named) {
        const Result<void> erased = co_await parts_.ledger.erase_endpoint(number);
        if (erased) break;
      }
    }
    co_await parts_.loop.sleep(pause);
  }
  parts_.quotas.forget_endpoint(find(number)->record.principal);
  all_.erase(number);
}

}  // namespace mapcap::broker
