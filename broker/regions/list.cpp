// List and show: what a caller may see of regions.
#include <algorithm>
#include <chrono>
#include <vector>

#include "base/glob.h"
#include "base/text.h"
#include "broker/regions/regions.h"
#include "broker/wait/slice.h"
#include "schema/codec.h"
#include "schema/name_glob.h"

namespace mapcap::broker {

using ledger::RegionRecord;
using policy::Verb;

namespace {

/// No more are looked at, and what they may take of a packet, beside the region.
constexpr std::size_t kShownHolders = 500;
constexpr std::size_t kRoomForHolders = schema::kMaxPacket - (4U << 10U);

/// What it takes at most: the struct, and its texts, each rounded up to words with a NUL.
std::size_t room_of(const Holder& holder) {
  std::size_t room = 48;
  for (const std::string* text : {&holder.endpoint, &holder.unit, &holder.container, &holder.cgroup})
    room += text->size() + 8;
  return room;
}

std::string cursor_of(const Region& region) {
  return std::to_string(region.id().value) + ":" + region.record.name;
}

Result<Directory::Position> position_of(const std::string& cursor) {
  if (cursor.empty()) return Directory::Position{};
  const std::size_t colon = cursor.find(':');
  if (colon == 0 || colon == std::string::npos || colon > 20 ||
      cursor.find_first_not_of("0123456789") != colon) {
    return failure(ErrorCode::invalid, "the list cursor is not one that this broker gave");
  }
  return Directory::Position{cursor.substr(colon + 1), std::strtoull(cursor.c_str(), nullptr, 10)};
}

}  // namespace

Task<Result<Delivery>> Regions::list(Caller caller, schema::List ask) {
  MAPCAP_CO_TRY(Directory::Position position, position_of(ask.cursor));
  if (!ask.glob.empty()) {
    const std::string fault = schema::why_no_name_matches(ask.glob, schema::Placeholders::none);
    if (!fault.empty())
      co_return failure(ErrorCode::invalid, "\"" + presentable(ask.glob, 300) + "\" " + fault);
  }
  // Names lie in order: all that match begin with what stands before the glob's first wildcard.
  const Glob glob(ask.glob);
  position = std::max(position, Directory::Position{glob.plain(), 0});
  constexpr std::uint32_t kPage = schema::kMaxPacket / schema::kRegionInfoBytes - 8;
  const std::uint32_t limit = ask.limit == 0 ? kPage : std::min(ask.limit, kPage);
  schema::Listing listing;
  // A page ends with a region that the caller may see: the cursor must not name another.
  for (bool more = true; more;) {
    Slice slice(parts_.loop.time());
    more = false;
    parts_.directory.visit_from(position, [&](const Region& region) {
      if (!region.record.name.starts_with(glob.plain())) return false;
      position = {region.record.name, region.id().value};
      if ((ask.glob.empty() || glob.matches(region.record.name)) && visible_to(region, caller.subject)) {
        listing.regions.push_back(describe(region));
        if (listing.regions.size() == limit) {
          listing.next = cursor_of(region);
          return false;
        }
      }
      more = slice.over();
      return !more;
    });
    if (more) co_await parts_.loop.give_way();
  }
  co_await tell_damage(listing.regions);
  co_return reply_of(std::move(listing));
}

Task<Result<Delivery>> Regions::show(Caller caller, schema::Show ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, {Verb::show}, ask.name));
  RegionDetails shown;
  shown.region = describe(*region);
  // What runs on the machine is nothing to an endpoint's clients, who are in containers, but of what is their own.
  const bool with_places =
      caller.subject.endpoint() == nullptr || region->record.owner == caller.subject.uid();
  std::size_t room = kRoomForHolders;
  std::size_t looked_at = 0;
  for (const auto& [holder, grants] : region->grants.holders()) {
    if (++looked_at > kShownHolders) break;
    Holder told = describe(holder, static_cast<std::uint32_t>(grants.size()), with_places);
    if (!with_places && !shown.holders.empty()) {
      Holder& last = shown.holders.back();
      if (last.uid == told.uid && last.rights == told.rights) {
        last.count += told.count;
        continue;
      }
    }
    if (room_of(told) > room) break;
    room -= room_of(told);
    shown.holders.push_back(std::move(told));
  }
  co_await tell_damage({&shown.region, 1});
  co_return reply_of(std::move(shown));
}

/// Asks filesystems and sysfs, so on a thread; and by what records know of the memory, since another thread
/// may be about to free it.
Task<void> Regions::tell_damage(std::span<RegionInfo> regions) const {
  struct Question {
    std::shared_ptr<pool::Pool> pool;  // A reload may take it out of service meanwhile.
    std::uint64_t word = 0;
    std::uint32_t* answer = nullptr;
  };
  std::vector<Question> questions;
  for (RegionInfo& info : regions) {
    const Region* region = parts_.directory.find(RegionId{info.id});
    if (region == nullptr || region->pool == nullptr || region->extent.empty()) continue;
    if (!region->pool->pool->wears_out()) continue;
    questions.push_back({region->pool->pool, region->extent.word(), &info.bad_blocks});
  }
  if (questions.empty()) co_return;
  const auto ask = [&questions] {
    for (const Question& one : questions) *one.answer = one.pool->bad_blocks(one.word);
    return true;
  };
  (void)co_await parts_.worker.run(ask);
}

Holder Regions::describe(const Grants::Holder& holder, std::uint32_t count, bool with_place) const {
  Holder told;
  told.uid = holder.uid;
  told.rights = holder.rights;
  told.count = count;
  if (const EndpointAccount* endpoint = parts_.quotas.endpoint(holder.uid)) {
    told.endpoint = endpoint->id;
    told.ended = endpoint->ended;
  }
  if (with_place && holder.label) {
    told.unit = presentable(holder.label->unit, schema::kMaxUnit);
    told.container = presentable(holder.label->container, schema::kMaxUnit);
    told.cgroup = presentable(policy::bare_cgroup(*holder.label), schema::kMaxPath);
  }
  return told;
}

RegionInfo Regions::describe(const Region& region) const {
  const RegionRecord& record = region.record;
  RegionInfo info;
  info.id = record.id.value;
  info.name = record.name;
  info.pool = record.pool;
  info.owner = record.owner;
  info.endpoint = parts_.quotas.endpoint_named(record.owner);
  info.group = record.group;
  info.mode = record.mode;
  info.size = record.size.value;
  info.seal = record.seal;
  info.lifetime = {record.lifetime, std::chrono::nanoseconds(record.ttl_ns)};
  info.created_unix = std::chrono::nanoseconds(record.created_unix_ns);
  info.state = record.state;
  info.draining = region.draining;
  info.grants = static_cast<std::uint32_t>(region.grants.size());
  info.held = region.charge.amount().bytes;
  if (region.published) info.published_unix = std::chrono::nanoseconds(*region.published);
  info.cache = {record.cache.mode, record.cache.required, record.cache_effective,
                CacheMechanism::page_attribute, false};
  if (region.pool != nullptr) {
    const pool::Facts& facts = region.pool->facts();
    info.cache.effective = region.pool->cache_of(record);
    info.cache.mechanism = facts.cache_mechanism;
    info.durability = facts.durability;
    info.confinement = region.pool->confiner->kind();
    if (!region.extent.empty()) {
      info.cache.verified = region.pool->cache_verified(region.extent);
    }
  }
  if (record.lifetime == LifetimeKind::ttl) {
    info.remaining =
        std::chrono::nanoseconds(std::max<std::int64_t>(record.expires_boot_ns - parts_.clock.boot_ns(), 0));
  }
  return info;
}

}  // namespace mapcap::broker
