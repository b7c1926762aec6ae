// What is asked of endpoints. How they end: endpoint_end.cpp.
#include <algorithm>
#include <charconv>
#include <utility>

#include "base/text.h"
#include "broker/door/endpoints.h"
#include "schema/codec.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using ledger::EndpointRecord;
using policy::Verb;

namespace {

/// Encoded, at most: a text takes a pointer, its bytes, a NUL and what fills a word.
std::size_t size_of(const EndpointInfo& info) {
  std::size_t bytes = schema::kEndpointInfoBytes;
  const auto add = [&bytes](const std::string& text) { bytes += text.size() + 24; };
  for (const auto* list : {&info.spec.names, &info.spec.pools, &info.spec.verbs}) {
    for (const std::string& text : *list) add(text);
  }
  for (const Label& label : info.spec.labels) {
    add(label.key);
    add(label.value);
  }
  return bytes;
}

/// Where a page begins: behind the id and number of the last of the page before.
using Position = std::pair<std::string, std::uint64_t>;

Result<Position> position_of(const std::string& cursor) {
  if (cursor.empty()) return Position{};
  const std::size_t colon = cursor.find(':');
  std::uint64_t number = 0;
  const char* end = cursor.data() + cursor.size();
  if (colon != std::string::npos) {
    const auto [stop, failed] = std::from_chars(cursor.data() + colon + 1, end, number);
    if (failed == std::errc{} && stop == end) return Position{cursor.substr(0, colon), number};
  }
  return failure(ErrorCode::invalid, "the cursor of endpoints is not one that this broker gave");
}

/// Who made it with the machine's power and who did so as a container's uid 0 are two.
bool made_by(const EndpointRecord& record, const policy::Subject& subject) {
  return record.maker == subject.uid() && record.maker_administrator == subject.administrator();
}

Failure no_such(const std::string& id) {
  return failure(ErrorCode::not_found, "there is no endpoint " + presentable(id, 80) + " of yours",
                 {{"endpoint", presentable(id, 80)}});
}

}  // namespace

Result<Endpoints::One*> Endpoints::find_for(const Caller& caller, const std::string& id) {
  MAPCAP_TRY_VOID(parts_.regions.authorize(caller, Verb::endpoint));
  const policy::Subject& subject = caller.subject;
  if (const auto own = by_name_.find(own_name(subject, id)); own != by_name_.end()) return own->second;
  const std::size_t slash = id.find('/');
  const std::string user = slash == std::string::npos ? "" : id.substr(0, slash);
  const std::string last = slash == std::string::npos ? id : id.substr(slash + 1);
  // Others' are the administrator's to see; USER/ID also names one's own.
  if (user.empty() && !subject.administrator()) return no_such(id);
  std::vector<One*> meant;
  std::string makers;
  for (const auto& [name, one] : by_name_) {
    const policy::Subject& maker = one->authority->maker;
    if (name.id != last || (!made_by(one->record, subject) && !subject.administrator())) continue;
    if (!user.empty() && user != maker.user() && user != std::to_string(name.maker)) continue;
    makers += (meant.empty() ? "" : ", ") + maker.user() + "/" + last;
    meant.push_back(one);
  }
  if (meant.empty()) return no_such(id);
  // A container's uid 0 may have one beside the administrator's, who finds his own without USER/.
  if (meant.size() > 1 && !user.empty()) return meant.front();
  if (meant.size() == 1) return meant.front();
  return failure(
      ErrorCode::invalid,
      "several users have an endpoint " + presentable(id, 80) + ": name one of " + presentable(makers, 300),
      {{"endpoint", presentable(id, 80)}});
}

Task<Result<Delivery>> Endpoints::create(Caller caller, schema::EndpointCreate ask) {
  MAPCAP_CO_TRY(EndpointRecord record, plan(caller, std::move(ask.spec)));
  const std::string place = place_of(record);
  // Whoever still has the directory of an earlier one of that id reaches nothing of this one by it.
  MAPCAP_CO_TRY_VOID(directory_.remove(place));
  MAPCAP_CO_TRY(ListeningSocket socket, directory_.listen(place, Fd()));
  const auto making = making_.insert(name_of(record)).first;
  policy::Subject::Maker maker{record.maker, record.maker_group, caller.subject.groups(),
                               caller.subject.user(), record.maker_administrator};
  const Result<void> recorded = co_await parts_.ledger.put_endpoint(record);
  making_.erase(making);
  if (!recorded) {
    (void)directory_.remove(place);
    co_return recorded.error();
  }
  One& one = add(std::move(record), std::move(maker));
  parts_.custody.guard_socket(RegionId{one.record.number}, socket.fd.borrow());
  parts_.listener.open(one.authority, std::move(socket));
  schedule(one);
  co_return reply_of(schema::EndpointTold{describe(one), false});
}

Task<Result<Delivery>> Endpoints::list(Caller caller, schema::EndpointList ask) {
  MAPCAP_CO_TRY_VOID(parts_.regions.authorize(caller, Verb::endpoint));
  MAPCAP_CO_TRY(const Position from, position_of(ask.cursor));
  std::map<Position, const One*> own;
  for (const auto& [number, one] : all_) {
    if (made_by(one->record, caller.subject) || caller.subject.administrator())
      own[{one->record.id, number}] = one.get();
  }
  schema::EndpointListing listing;
  std::size_t room = schema::kMaxPacket - 1024;
  std::string last;
  for (auto at = own.upper_bound(from); at != own.end(); ++at) {
    EndpointInfo info = describe(*at->second);
    const std::size_t takes = size_of(info);
    if (takes > room) {
      listing.next = last;
      break;
    }
    room -= takes;
    last = at->first.first + ":" + std::to_string(at->first.second);
    listing.endpoints.push_back(std::move(info));
  }
  co_return reply_of(std::move(listing));
}

Task<Result<Delivery>> Endpoints::show(Caller caller, schema::EndpointShow ask) {
  MAPCAP_CO_TRY(const One* one, find_for(caller, ask.id));
  Delivery delivery;
  schema::EndpointTold told{describe(*one), ask.directory};
  if (ask.directory) {
    if (one->record.state != EndpointState::active)
      co_return failure(ErrorCode::busy, "endpoint " + one->record.id + " is ending");
    MAPCAP_CO_TRY_VOID(allow_directory(caller.subject));
    const auto mount = [this, place = place_of(one->record)] { return directory_.mount_of(place); };
    MAPCAP_CO_TRY(delivery.fd, co_await parts_.accounts.run(mount));
  }
  delivery.body = std::move(told);
  co_return delivery;
}

/// The administrator's own programs start containers all day.
Result<void> Endpoints::allow_directory(const policy::Subject& subject) {
  if (subject.administrator()) return ok();
  const std::uint32_t account = parts_.quotas.account_of(subject.uid());
  const auto now = parts_.loop.time().now();
  if (directories_.take(account, now)) return ok();
  const auto wait = std::chrono::ceil<std::chrono::seconds>(directories_.wait(account, now));
  return failure(ErrorCode::exhausted,
                 subject.describe() + " was given " + std::to_string(kDirectoriesAtOnce) +
                     " directories of endpoints, and then gets one every " +
                     std::to_string(kNextDirectoryAfter.count()) + " s: pass on those, or try again in " +
                     std::to_string(wait.count()) + " s",
                 {{"limit", std::to_string(kDirectoriesAtOnce)}});
}

Task<Result<Delivery>> Endpoints::renew(Caller caller, schema::EndpointRenew ask) {
  MAPCAP_CO_TRY(One * one, find_for(caller, ask.id));
  const std::uint64_t number = one->record.number;
  if (one->record.state != EndpointState::active)
    co_return failure(ErrorCode::busy, "endpoint " + ask.id + " is ending");
  if (one->record.ttl_ns == 0)
    co_return failure(ErrorCode::invalid,
                      "endpoint " + ask.id + " does not end by time: only a ttl can be renewed");
  if (ask.ttl < 1s) co_return failure(ErrorCode::invalid, "a ttl is at least 1 s");
  EndpointRecord renewed = one->record;
  start_ttl(renewed, ask.ttl, parts_.boot, parts_.clock);
  MAPCAP_CO_TRY_VOID(co_await parts_.ledger.put_endpoint(renewed));
  one = find(number);
  if (one == nullptr || one->record.state != EndpointState::active)
    co_return failure(ErrorCode::busy, "endpoint " + ask.id + " ended meanwhile");
  one->record = std::move(renewed);
  schedule(*one);
  co_return reply_of(schema::EndpointTold{describe(*one), false});
}

EndpointInfo Endpoints::describe(const One& one) const {
  const EndpointRecord& record = one.record;
  EndpointInfo info;
  info.spec = {record.id,
               record.names,
               record.pools,
               record.verbs,
               record.rights,
               record.limits,
               std::chrono::nanoseconds(record.ttl_ns),
               record.on_end,
               record.labels};
  info.maker = record.maker;
  info.principal = record.principal;
  info.state = record.state;
  info.directory = directory_.path_of(place_of(record));
  info.created_unix = std::chrono::nanoseconds(record.created_unix_ns);
  if (record.ttl_ns > 0)
    info.remaining =
        std::chrono::nanoseconds(std::max<std::int64_t>(record.expires_boot_ns - parts_.clock.boot_ns(), 0));
  const Amount used = parts_.quotas.used_by(record.principal);
  info.bytes = used.bytes;
  info.regions = used.regions;
  info.grants = used.grants;
  info.connections = used.connections;
  return info;
}

}  // namespace mapcap::broker
