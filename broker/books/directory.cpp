#include "broker/books/directory.h"

#include <algorithm>
#include <string_view>
#include <tuple>

#include "broker/books/pools.h"

namespace mapcap::broker {

std::strong_ordering Grants::Holder::operator<=>(const Holder& other) const {
  static const policy::PeerLabel nothing;
  const auto key = [](const Holder& one) {
    const policy::PeerLabel& known = one.label ? *one.label : nothing;
    return std::tuple(one.uid, one.rights, std::string_view(known.container), std::string_view(known.unit),
                      policy::bare_cgroup(known));
  };
  return key(*this) <=> key(other);
}

void Grants::add(Grant grant) {
  const confine::GrantId id = grant.id;
  holders_[{grant.holder, grant.rights, grant.label}].insert(id);
  if (grant.rights == Access::read_write) ++writable_;
  by_id_.insert_or_assign(id, std::move(grant));
}

std::size_t Grants::held_by(std::uint32_t uid) const {
  std::size_t held = 0;
  for (auto at = holders_.lower_bound({uid, Access::read_only}); at != holders_.end() && at->first.uid == uid;
       ++at)
    held += at->second.size();
  return held;
}

const Grant* Grants::one_of(std::uint32_t uid) const {
  if (holders_.empty()) return nullptr;
  auto holder = holders_.lower_bound({uid, Access::read_only});
  if (holder == holders_.end() || holder->first.uid != uid) holder = holders_.begin();
  return &by_id_.at(*holder->second.begin());
}

void Grants::remove(confine::GrantId id) {
  const auto found = by_id_.find(id);
  MAPCAP_INVARIANT(found != by_id_.end(), "a grant ends twice");
  const auto holder = holders_.find({found->second.holder, found->second.rights, found->second.label});
  holder->second.erase(id);
  if (holder->second.empty()) holders_.erase(holder);
  if (found->second.rights == Access::read_write) --writable_;
  by_id_.erase(found);
}

bool Region::may_return() const {
  return record.state == RegionState::lost && !record.volatile_memory &&
         (pool == nullptr || pool->facts().may_return);
}

Result<void> Directory::check_free(const std::string& name) {
  const Region* holder = find(name);
  if (holder != nullptr && holder->may_return()) {
    return failure(ErrorCode::exists,
                   "region " + name +
                       " is lost, but its device or filesystem may only be missing: bring that back and "
                       "restart mapcapd, or revoke the region to give up what it holds",
                   {{"name", name}});
  }
  if ((holder != nullptr && holder->record.state != RegionState::lost) || reserved_.contains(name)) {
    return failure(ErrorCode::exists,
                   "a region named " + name + " exists already; revoke it or choose another name",
                   {{"name", name}});
  }
  return ok();
}

Result<Directory::Reservation> Directory::reserve(const std::string& name) {
  MAPCAP_TRY_VOID(check_free(name));
  reserved_.insert(name);
  return Reservation(*this, name);
}

Region& Directory::add(std::unique_ptr<Region> region) {
  Region& added = *region;
  const std::uint64_t id = added.id().value;
  by_name_[{added.record.name, id}] = &added;
  const bool fresh = regions_.emplace(id, std::move(region)).second;
  MAPCAP_INVARIANT(fresh, "a region id was used twice");
  return added;
}

void Directory::remove(RegionId id) {
  auto found = regions_.find(id.value);
  MAPCAP_INVARIANT(found != regions_.end(), "a region is removed twice");
  MAPCAP_INVARIANT(found->second->issuing == 0, "a region is removed while a grant is on its way");
  for (const auto& [grant, one] : found->second->grants.by_id()) grants_.erase(grant);
  by_name_.erase({found->second->record.name, id.value});
  std::shared_ptr<Event> changed = found->second->changed;
  regions_.erase(found);
  changed->notify();
}

Region* Directory::find(RegionId id) {
  auto found = regions_.find(id.value);
  return found == regions_.end() ? nullptr : found->second.get();
}

Region* Directory::find(const std::string& name) {
  // A lost region is only told of: one that was created in its place comes first.
  Region* lost = nullptr;
  for (auto at = by_name_.lower_bound({name, 0}); at != by_name_.end() && at->first.name == name; ++at) {
    if (!at->second->holds_name()) continue;
    if (at->second->record.state != RegionState::lost) return at->second;
    lost = at->second;
  }
  return lost;
}

Region* Directory::find_or_latest(const std::string& name) {
  if (Region* holder = find(name)) return holder;
  Region* latest = nullptr;
  for (auto at = by_name_.lower_bound({name, 0}); at != by_name_.end() && at->first.name == name; ++at) {
    latest = at->second;
  }
  return latest;
}

void Directory::track(Region& region, Grant grant) {
  if (grant.id == 0) {
    region.untracked = true;
    return;  // Nobody will ever say that it is gone: its charge ends here, and reclaim probes.
  }
  grants_.emplace(grant.id, region.id().value);
  region.grants.add(std::move(grant));
}

Region* Directory::release(confine::GrantId grant) {
  auto found = grants_.find(grant);
  if (found == grants_.end()) return nullptr;
  Region* region = find(RegionId{found->second});
  grants_.erase(found);
  MAPCAP_INVARIANT(region != nullptr, "a grant outlived its region");
  region->grants.remove(grant);
  if (region->grants.empty() || region->publishing > 0) region->changed->notify();  // Nobody waits for less.
  return region;
}

std::optional<std::uint32_t> Directory::holder_of(confine::GrantId grant) {
  const auto found = grants_.find(grant);
  if (found == grants_.end()) return std::nullopt;
  return find(RegionId{found->second})->grants.by_id().at(grant).holder;
}

}  // namespace mapcap::broker
