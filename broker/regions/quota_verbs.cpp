#include "broker/regions/quota_verbs.h"

#include <algorithm>
#include <charconv>
#include <iterator>

#include "broker/books/quota_limits.h"
#include "schema/codec.h"

namespace mapcap::broker {

using policy::Verb;

namespace {

/// The cursor counts slots: those that come or go between two pages may shift a page by one.
Result<std::size_t> slot_after(const std::string& cursor) {
  std::size_t first = 0;
  if (cursor.empty()) return first;
  const char* end = cursor.data() + cursor.size();
  const auto [stop, failed] = std::from_chars(cursor.data(), end, first);
  if (failed != std::errc{} || stop != end) {
    return failure(ErrorCode::invalid, "the quota cursor is not one that this broker gave");
  }
  return first;
}

}  // namespace

Task<Result<Delivery>> QuotaVerbs::list(Caller caller, schema::Quota ask) const {
  MAPCAP_CO_TRY_VOID(regions_.authorize(caller, Verb::quota));
  std::vector<QuotaInfo> slots = regions_.allows(caller, Verb::quota_set)
                                     ? quotas_.report_all()
                                     : quotas_.report_for(caller.subject.uid(), caller.subject.groups());
  MAPCAP_CO_TRY(std::size_t first, slot_after(ask.cursor));
  constexpr std::size_t kPage = schema::kMaxPacket / schema::kQuotaInfoBytes - 8;
  first = std::min(first, slots.size());
  const std::size_t last = std::min(first + kPage, slots.size());
  schema::QuotaList list;
  if (last < slots.size()) list.next = std::to_string(last);
  list.quotas.assign(std::make_move_iterator(slots.begin() + static_cast<std::ptrdiff_t>(first)),
                     std::make_move_iterator(slots.begin() + static_cast<std::ptrdiff_t>(last)));
  co_return reply_of(std::move(list));
}

Task<Result<Delivery>> QuotaVerbs::set(Caller caller, schema::QuotaSet ask) {
  MAPCAP_CO_TRY_VOID(regions_.authorize(caller, Verb::quota_set));
  if (!ask.slot.pool.empty()) {
    MAPCAP_CO_TRY_VOID(regions_.policy().find_pool(ask.slot.pool));
  }
  MAPCAP_CO_TRY_VOID(check_override(ask, pools_));
  // What is not named stays as it was set, or as the policy says.
  ledger::QuotaRecord record{ask.slot.subject, ask.slot.id, ask.slot.pool,
                             quotas_.override_of(ask.slot.subject, ask.slot.id, ask.slot.pool)};
  if (ask.limits.bytes) record.limits.bytes = ask.limits.bytes;
  if (ask.limits.regions) record.limits.regions = ask.limits.regions;
  if (ask.limits.grants) record.limits.grants = ask.limits.grants;
  if (ask.limits.connections) record.limits.connections = ask.limits.connections;
  MAPCAP_CO_TRY_VOID(co_await ledger_.put_quota(record));
  quotas_.set_override(record);
  co_return reply_of(schema::Done{});
}

Task<Result<Delivery>> QuotaVerbs::clear(Caller caller, schema::QuotaClear ask) {
  MAPCAP_CO_TRY_VOID(regions_.authorize(caller, Verb::quota_set));
  MAPCAP_CO_TRY_VOID(co_await ledger_.erase_quota(ask.slot.subject, ask.slot.id, ask.slot.pool));
  if (!quotas_.clear_override(ask.slot.subject, ask.slot.id, ask.slot.pool)) {
    co_return failure(ErrorCode::not_found, "there is no quota override for that subject and pool");
  }
  co_return reply_of(schema::Done{});
}

}  // namespace mapcap::broker
