// How an endpoint ends, step by step, and from wherever a broker's death left it.
#include <algorithm>

#include "base/text.h"
#include "broker/door/audited.h"
#include "broker/door/endpoints.h"

namespace mapcap::broker {

using namespace std::chrono_literals;

namespace {

constexpr std::chrono::nanoseconds kRetryAtMost = 5s;

/// "3 grants of models/a, models/b"; empty when nothing stays.
std::string left_of(const EndpointEnded& ended) {
  if (ended.opened == 0) return "";
  std::string text = std::to_string(ended.opened) + (ended.opened == 1 ? " grant of " : " grants of ");
  for (const std::string& name : ended.opened_regions)
    text += (name == ended.opened_regions.front() ? "" : ", ") + name;
  return text;
}

}  // namespace

Task<Result<Delivery>> Endpoints::end(Caller caller, schema::EndpointEnd ask) {
  MAPCAP_CO_TRY(const One* one, find_for(caller, ask.id));
  const std::uint64_t number = one->record.number;
  const Result<bool> begun = co_await begin_end(number, ask.revoke_opened);
  if (!begun) co_return begun.error();
  MAPCAP_CO_TRY(EndpointEnded ended, co_await outcome(number));
  if (caller.judged != nullptr) caller.judged->left = left_of(ended);
  co_return reply_of(std::move(ended));
}

Task<Result<bool>> Endpoints::begin_end(std::uint64_t number, bool revoke_opened) {
  One* one = find(number);
  while (one != nullptr && one->recording) {
    const std::shared_ptr<Event> changed = one->changed;
    co_await changed->wait();
    one = find(number);
  }
  if (one == nullptr || one->record.state == EndpointState::ended) co_return false;
  if (one->record.state == EndpointState::ending) {
    if (!revoke_opened || one->record.revoke_opened) co_return false;
    co_return failure(ErrorCode::busy,
                      "endpoint " + one->record.id +
                          " is ending already, without what its clients have open: revoke that by its "
                          "name");
  }
  one->recording = true;
  one->authority->ended = true;  // At once, while the ledger writes.
  // And at once, so that no renewal is written after it.
  one->record.state = EndpointState::ending;
  one->record.revoke_opened = revoke_opened;
  const Result<void> recorded = co_await parts_.ledger.put_endpoint(one->record);
  one->recording = false;
  one->changed->notify();
  if (!recorded) {
    one->record.state = EndpointState::active;
    one->record.revoke_opened = false;
    one->authority->ended = false;
    co_return recorded.error();
  }
  know(*one);
  spawn(carry_out(number));
  co_return true;
}

Task<Result<EndpointEnded>> Endpoints::outcome(std::uint64_t number) {
  for (const One* one = find(number); one != nullptr; one = find(number)) {
    if (one->over) co_return one->result;
    if (one->trouble) {
      Failure told = *one->trouble;
      told.sentence = "endpoint " + one->record.id +
                      " is ending, and will when the ledger takes changes: " + told.sentence;
      co_return told;
    }
    const std::shared_ptr<Event> changed = one->changed;
    co_await changed->wait();
  }
  co_return EndpointEnded{};
}

/// From the record that it ends to the one that it has.
Task<void> Endpoints::carry_out(std::uint64_t number) {
  One& one = *find(number);
  co_await leave_nothing(one);
  one.record.state = EndpointState::ended;
  for (auto pause = std::chrono::nanoseconds(100ms);; pause = std::min(pause * 2, kRetryAtMost)) {
    const Result<void> recorded = co_await parts_.ledger.put_endpoint(one.record);
    // All of it has ended, whatever the record says, and a restart would find nothing left to do. Only its id is not
    // another's before.
    one.over = true;
    if (recorded) break;
    one.changed->notify();
    co_await parts_.loop.sleep(pause);
  }
  by_name_.erase(name_of(one.record));
  one.changed->notify();
  spawn(forget_when_free(number));
}

Task<void> Endpoints::end_by_itself(std::uint64_t number, std::string why) {
  AuditRecord record;
  {
    const One& one = *find(number);
    record.verb = "endpoint-end";
    record.name = one.record.id;
    record.rule = std::move(why);
    record.who = actor_for(*one.authority, parts_.quotas.account_of(one.record.maker));
  }
  if (find(number)->record.state == EndpointState::ending) {
    spawn(carry_out(number));
  } else {
    for (auto pause = std::chrono::nanoseconds(100ms);; pause = std::min(pause * 2, kRetryAtMost)) {
      const Result<bool> begun = co_await begin_end(number, false);
      // Whoever asked meanwhile has the record of it.
      if (begun && !begun.value()) co_return;
      if (begun) break;
      co_await parts_.loop.sleep(pause);
    }
  }
  for (;;) {
    const Result<EndpointEnded> ended = co_await outcome(number);
    if (ended) {
      record.left = left_of(ended.value());
      break;
    }
    co_await parts_.loop.sleep(kRetryAtMost);
  }
  parts_.audit.note(std::move(record));
}

/// Every step can be repeated, and finds nothing to do when it was done.
Task<void> Endpoints::leave_nothing(One& one) {
  const std::uint32_t principal = one.record.principal;
  // Before its descriptor is closed.
  parts_.custody.drop(RegionId{one.record.number});
  parts_.listener.shut(principal);
  if (Result<void> removed = directory_.remove(place_of(one.record)); !removed)
    parts_.report.endpoint_unserved(one.record.id, removed.error());
  co_await parts_.listener.dismiss(principal);
  for (auto pause = std::chrono::nanoseconds(100ms);; pause = std::min(pause * 2, kRetryAtMost)) {
    one.trouble = co_await end_owned(one);
    if (!one.trouble) one.trouble = co_await look_at_opened(one);
    if (!one.trouble) co_return;
    // The ledger takes no changes: they are wanted again when it does. Whoever waits is told.
    one.changed->notify();
    co_await parts_.loop.sleep(pause);
    one.trouble.reset();
  }
}

/// Until nothing is left, or the ledger refuses.
Task<std::optional<Failure>> Endpoints::end_owned(One& one) {
  for (;;) {
    const std::vector<RegionId> owned = co_await parts_.regions.owned_by(one.record.principal);
    if (owned.empty()) co_return std::nullopt;
    std::optional<Failure> refused;
    for (const RegionId region : owned) {
      if (one.record.on_end == OnEnd::keep) {
        const Result<void> kept = co_await parts_.regions.hand_over(region, one.authority->maker);
        one.result.kept += kept ? 1 : 0;
        if (kept) continue;
        if (kept.error().code == ErrorCode::io) {
          refused = kept.error();
          continue;
        }
      }
      const Result<Revoked> revoked = co_await parts_.regions.take_away(region);
      // Quarantined memory goes when it can, and nobody gets it meanwhile.
      if (!revoked && revoked.error().code == ErrorCode::io) refused = revoked.error();
      one.result.revoked += revoked ? 1 : 0;
      if (revoked) one.result.held += revoked.value().held;
      co_await parts_.loop.give_way();
    }
    if (refused) co_return refused;
  }
}

/// What went through it of regions that it does not own. Nobody can get more of it by now.
Task<std::optional<Failure>> Endpoints::look_at_opened(One& one) {
  one.result.opened = 0;
  one.result.opened_regions.clear();
  std::optional<Failure> refused;
  const std::vector<Regions::Opened> all = co_await parts_.regions.opened_by(one.record.principal);
  for (const Regions::Opened& opened : all) {
    if (one.record.revoke_opened) {
      const Result<Revoked> cut = co_await parts_.regions.take_back(opened.region, one.authority->maker);
      one.result.cut += cut ? 1 : 0;
      if (cut) one.result.held += cut.value().held;
      if (!cut && cut.error().code == ErrorCode::io) refused = cut.error();
      co_await parts_.loop.give_way();
      if (cut) continue;
    }
    one.result.opened += opened.grants;
    if (one.result.opened_regions.size() < schema::kMaxOpened)
      one.result.opened_regions.push_back(opened.name);
  }
  co_return refused;
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
