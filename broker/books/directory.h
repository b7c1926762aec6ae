// The directory: every region the broker knows, by id and by name.
//
// A name belongs to at most one region that is live or being revoked. As soon as a region is cut its name is
// free again, while the region itself stays here, listed and charged, until its memory is really free.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "broker/books/quotas.h"
#include "broker/confine/confiner.h"
#include "broker/ledger/table/record.h"
#include "broker/pool/pool.h"
#include "broker/wait/event.h"
#include "policy/peer_label.h"

namespace mapcap::broker {

struct ServedPool;
using SessionId = std::uint64_t;

/// A descriptor that was handed out and is, as far as the kernel tells, still open or mapped.
struct Grant {
  confine::GrantId id = 0;
  Access rights = Access::read_only;
  std::uint32_t holder = 0;  ///< uid
  Charge charge;
  /// What whoever got it looked like; null: not known, as of what an earlier broker granted.
  std::shared_ptr<const policy::PeerLabel> label{};
};

/// The grants of one region. Thousands may come and go: nothing but a look at all holders takes longer for
/// it.
class Grants {
 public:
  /// A uid, with which rights, and where it ran: in a unit, a container or another cgroup, whatever program it was.
  struct Holder {
    std::uint32_t uid = 0;
    Access rights = Access::read_only;
    std::shared_ptr<const policy::PeerLabel> label{};  ///< As of a grant.
    std::strong_ordering operator<=>(const Holder& other) const;
    bool operator==(const Holder& other) const { return (*this <=> other) == 0; }
  };

  [[nodiscard]] bool empty() const { return by_id_.empty(); }
  [[nodiscard]] std::size_t size() const { return by_id_.size(); }
  /// How many of them are writable.
  [[nodiscard]] std::size_t writable() const { return writable_; }
  /// The grants of each holder.
  [[nodiscard]] const std::map<Holder, std::unordered_set<confine::GrantId>>& holders() const {
    return holders_;
  }
  [[nodiscard]] const std::unordered_map<confine::GrantId, Grant>& by_id() const { return by_id_; }

  /// How many of them are this uid's.
  [[nodiscard]] std::size_t held_by(std::uint32_t uid) const;
  /// One of this uid's, else anybody's, else null.
  [[nodiscard]] const Grant* one_of(std::uint32_t uid) const;

  void add(Grant grant);
  /// The grant must be one of them.
  void remove(confine::GrantId id);

 private:
  std::unordered_map<confine::GrantId, Grant> by_id_;
  std::map<Holder, std::unordered_set<confine::GrantId>> holders_;
  std::size_t writable_ = 0;
};

struct Region {
  explicit Region(Loop& loop) : changed(std::make_shared<Event>(loop)) {}

  ledger::RegionRecord record;
  ServedPool* pool = nullptr;  ///< Null only for lost regions of a pool that the policy no longer has.
  pool::Extent extent;         ///< Empty for lost regions.
  Charge charge;
  Grants grants;
  bool untracked = false;     ///< Grants may live of which the kernel sends no word: reclaim must probe.
  std::uint32_t issuing = 0;  ///< Grants on their way; the memory must not go before they have arrived.
  bool draining = false;      ///< While it is revoking: its holders may finish first.
  bool hurry = false;         ///< A drain that is under way is to end now.
  bool cut = false;           ///< Promise 5 holds.
  bool abandoned = false;     ///< Its holders are not waited for: broker and keeper end too.
  std::uint32_t issuing_writable = 0;  ///< Of the grants that are being issued, the writable ones.
  /// Somebody may have had a descriptor: from then on holders choose what cutting and freeing cost, whatever
  /// the region's size (a mapping each, tens of thousands of them; pages that were empty before).
  bool touched = false;
  std::uint32_t publishing =
      0;  ///< Publishes that are under way: no writable grant is made meanwhile, or ever after.
  bool publish_over = false;  ///< One of them has run out of patience: all end.
  /// Pool::forbid_writing has succeeded, whatever the ledger says yet: no writable grant is ever made again.
  bool unwritable = false;
  bool recording_later = false;  ///< The ledger refused to record that, and is asked again.
  /// Since when it is published; what may be told, since the record is durable. The record has it a moment earlier.
  std::optional<std::int64_t> published;
  std::vector<SessionId> watchers;  ///< Sessions to be told of expiry and revocation.
  /// The state changed, or the last grant is gone, or any while it is being published. Shared: waiters may outlive the region.
  std::shared_ptr<Event> changed;

  [[nodiscard]] RegionId id() const { return record.id; }
  /// Nobody is given a writable grant, now or ever again.
  [[nodiscard]] bool closed_to_writers() const {
    return publishing > 0 || unwritable || record.published_unix_ns != 0;
  }
  /// Lost, but its device, its filesystem or its pool may only be missing.
  [[nodiscard]] bool may_return() const;
  [[nodiscard]] bool holds_name() const {
    return record.state == RegionState::live || record.state == RegionState::lost ||
           (record.state == RegionState::revoking && !cut);
  }
};

class Directory {
 public:
  /// A name that a create is working on. Move-only; ends when destroyed.
  class [[nodiscard]] Reservation {
   public:
    Reservation(Directory& directory, std::string name) : directory_(&directory), name_(std::move(name)) {}
    Reservation(Reservation&& other) noexcept
        : directory_(std::exchange(other.directory_, nullptr)), name_(std::move(other.name_)) {}
    Reservation& operator=(Reservation&&) = delete;
    ~Reservation() {
      if (directory_ != nullptr) directory_->reserved_.erase(name_);
    }

   private:
    Directory* directory_;
    std::string name_;
  };

  /// What reserve() would say.
  [[nodiscard]] Result<void> check_free(const std::string& name);
  /// Errors: `exists` when a live region, one that may return, or another create has the name.
  Result<Reservation> reserve(const std::string& name);

  Region& add(std::unique_ptr<Region> region);
  /// The region must be idle: no grants, nothing on its way.
  void remove(RegionId id);

  [[nodiscard]] Region* find(RegionId id);
  /// The region that holds the name, or null.
  [[nodiscard]] Region* find(const std::string& name);
  /// The region that holds the name, else the newest that had it and is not gone yet, else null.
  [[nodiscard]] Region* find_or_latest(const std::string& name);
  [[nodiscard]] std::size_t size() const { return regions_.size(); }

  /// Calls `visit` for regions in the order of (name, id), beginning after the given position, until it
  /// returns false.
  struct Position {
    std::string name;
    std::uint64_t id = 0;
    auto operator<=>(const Position&) const = default;
  };
  template <typename Visit>
  void visit_from(const Position& after, Visit visit) {
    for (auto at = by_name_.upper_bound(after); at != by_name_.end(); ++at) {
      if (!visit(*at->second)) return;
    }
  }
  template <typename Visit>
  void visit_all(Visit visit) {
    for (auto& [id, region] : regions_) visit(*region);
  }

  void track(Region& region, Grant grant);
  /// The kernel says that nothing of the grant is left. Returns its region, or null when it is unknown.
  Region* release(confine::GrantId grant);
  /// The uid that the grant was issued to; empty when it is unknown.
  [[nodiscard]] std::optional<std::uint32_t> holder_of(confine::GrantId grant);

 private:
  std::unordered_map<std::uint64_t, std::unique_ptr<Region>> regions_;
  std::map<Position, Region*> by_name_;
  std::set<std::string> reserved_;
  std::unordered_map<confine::GrantId, std::uint64_t> grants_;
};

}  // namespace mapcap::broker
