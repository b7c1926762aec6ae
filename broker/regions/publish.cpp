// Publish: from then on nobody can write a region, and its readers can see that (promise 15).
//
//     no writable grant is made       from the first moment; a publish that fails gives that back
//     the last writer is gone         FUSE FORGET says so of those that are known, the memory itself of the others
//     Pool::forbid_writing            the kernel's test, pins included, and for memory its seal, which stays
//     Ledger::put                     the record
//     Confiner::tell_published        the grants that are out say so
//     the reply
//
// Who asked and goes before the seal leaves a region that is as it was, and so does a broker that dies. What fails behind it
// is made good in time, since the seal stays: a ledger that refuses is asked again; a broker that dies leaves a seal which
// nobody could have added while anybody could write: so the next start records what that says and goes on from there.
// Clones' mappings do not heed the seal, but none was made since, and none will be.
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "broker/ledger/strength.h"
#include "broker/regions/regions.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using ledger::RegionRecord;
using policy::Verb;

namespace {

/// What the kernel may take to tell that whoever wrote last has let go: nobody who closed a moment ago is to hear `busy`.
constexpr std::chrono::nanoseconds kSettling = 250ms;
/// How soon memory that somebody has, of whom no end is told, is asked about again. The longer it lasts, the later: an
/// attempt that finds pages pinned waits for them for a sixth of a second.
constexpr std::chrono::nanoseconds kAskAgain = 1ms;
constexpr std::chrono::nanoseconds kAskAgainAtMost = 1s;
constexpr std::size_t kHoldersNamed = 8;
constexpr std::chrono::nanoseconds kRecordAgain = 1s;

/// Nobody hears it.
Failure nobody_waits(const std::string& name) {
  return failure(ErrorCode::busy, "whoever wanted region " + name + " published has gone");
}

Failure ended(const std::string& name) {
  return failure(ErrorCode::busy, "region " + name + " ended meanwhile");
}

Result<void> check_publishable(const Region& region) {
  const RegionRecord& record = region.record;
  if (record.state == RegionState::lost) {
    return failure(ErrorCode::lost,
                   "region " + record.name + " was in memory that is gone: there is nothing to publish");
  }
  if (record.state != RegionState::live) {
    return failure(ErrorCode::busy, "region " + record.name + " is " + std::string(to_string(record.state)));
  }
  if (region.pool->confiner->kind() == Confinement::sealed) {
    return failure(
        ErrorCode::unsupported,
        "region " + record.name +
            " cannot be published: its holders get the memory itself (confinement = \"sealed\"), with seals "
            "that are closed against them, so nobody could tell whether pages are still pinned for writing "
            "(io_uring, direct I/O); use a pool with another confinement");
  }
  return ok();
}

/// "user 1000", "endpoint reader-1 in container 0123456789ab"
std::string whom(const Grants::Holder& holder, const Quotas& quotas) {
  const std::string who = quotas.whom(holder.uid);
  return holder.label ? who + policy::in_its_place(*holder.label) : who;
}

/// "user 1000 (ro), user 1001 (ro)": who has any grant of it.
std::string holders_of(const Region& region, const Quotas& quotas) {
  std::string text;
  std::size_t named = 0;
  for (const auto& [holder, grants] : region.grants.holders()) {
    if (++named > kHoldersNamed) return text + " and others";
    text += (text.empty() ? "" : ", ") + whom(holder, quotas) + " (" + std::string(to_string(holder.rights)) +
            ")";
  }
  return text;
}

/// "user 1000 has 2 writable grants, user 1001 has 1"
std::string writers_of(const Region& region, const Quotas& quotas) {
  std::string text;
  std::size_t named = 0;
  for (const auto& [holder, grants] : region.grants.holders()) {
    if (holder.rights != Access::read_write) continue;
    if (++named > kHoldersNamed) return text + " and others";
    text += (text.empty() ? "" : ", ") + whom(holder, quotas) + " has " + std::to_string(grants.size());
    if (named == 1) text += grants.size() == 1 ? " writable grant" : " writable grants";
  }
  return text;
}

/// `why`: what the pool says, where no writable grant is known.
Failure still_written(const Region& region, const Quotas& quotas, const std::optional<Failure>& why) {
  const std::string name = "region " + region.record.name + " ";
  if (const std::size_t writable = region.grants.writable(); writable > 0) {
    return failure(ErrorCode::busy,
                   name + "can still be written: " + writers_of(region, quotas) +
                       " open or mapped; they must let go, or be given time to (--within)",
                   {{"by", "grants"}, {"writers", std::to_string(writable)}});
  }
  if (!why)
    return failure(ErrorCode::busy, name + "is being granted to somebody; ask again", {{"by", "grants"}});
  Failure told = *why;
  told.sentence = name + "can still be written: " + told.sentence;
  const bool pinned = std::any_of(told.details.begin(), told.details.end(), [](const Detail& detail) {
    return detail.key == "by" && detail.value == "pins";
  });
  if (pinned) {
    // A pin outlives mapping and grant, so that it need not be one of those who still have any.
    const std::string holders = holders_of(region, quotas);
    told.sentence += ". The kernel does not tell who pins, nor whether to read or to write: " +
                     (holders.empty() ? "nobody has a grant of it any more, so it is somebody who had one"
                                      : "it may be a reader; grants of it have " + holders);
  }
  told.sentence += "; whoever that is must let go, or be given time to (--within)";
  return told;
}

}  // namespace

/// One that is under way; ends when destroyed.
class Regions::Publishing {
 public:
  Publishing(Directory& directory, RegionId id) : directory_(directory), id_(id) {
    ++directory_.find(id_)->publishing;
  }
  Publishing(const Publishing&) = delete;
  Publishing& operator=(const Publishing&) = delete;
  ~Publishing() {
    Region* region = directory_.find(id_);
    if (region != nullptr && --region->publishing == 0) region->publish_over = false;
  }

 private:
  Directory& directory_;
  RegionId id_;
};

Task<Result<Delivery>> Regions::publish(Caller caller, schema::Publish ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, {Verb::publish}, ask.name));
  const RegionId id = region->id();
  if (!region->published) {
    MAPCAP_CO_TRY_VOID(check_publishable(*region));
    const std::uint32_t account =
        caller.subject.administrator()
            ? policy::kAdministrators  // None of theirs for whoever is uid 0 without being one.
            : parts_.quotas.account_of(caller.subject.uid());
    MAPCAP_CO_TRY_VOID(check_drains(account));
    const Drains::Place place(drains_, account);
    const Publishing under_way(parts_.directory, id);
    Asker stays;
    Asker& asker = caller.asker != nullptr ? *caller.asker : stays;
    const Result<void> outlasted = co_await outlast_writers(id, std::max(ask.within, kSettling), asker);
    asker.on_gone(nullptr);
    MAPCAP_CO_TRY_VOID(outlasted);
    MAPCAP_CO_TRY_VOID(co_await record_published(id));
  }
  region = parts_.directory.find(id);
  if (region == nullptr || !region->published) co_return ended(ask.name);
  Delivery delivery;
  schema::Published answer{describe(*region)};
  co_await tell_damage({&answer.region, 1});
  delivery.body = std::move(answer);
  co_return delivery;
}

/// Until Pool::forbid_writing has succeeded. The caller takes what it leaves in `asker` out again.
Task<Result<void>> Regions::outlast_writers(RegionId id, std::chrono::nanoseconds within, Asker& asker) {
  const std::string name = parts_.directory.find(id)->record.name;
  const std::shared_ptr<Event> changed = parts_.directory.find(id)->changed;
  const auto paused = std::make_shared<Event>(parts_.loop);
  bool late = false;
  const Loop::Timer deadline = parts_.loop.after(within, [&late, changed, paused] {
    late = true;
    changed->notify();
    paused->notify();
  });
  asker.on_gone([changed, paused] {
    changed->notify();
    paused->notify();
  });
  std::optional<Failure> why;
  for (std::chrono::nanoseconds pause = kAskAgain;; pause = std::min(pause * 2, kAskAgainAtMost)) {
    Region* region = parts_.directory.find(id);
    while (region != nullptr && region->record.state == RegionState::live && !region->unwritable &&
           region->grants.writable() + region->issuing_writable > 0) {
      if (asker.gone()) co_return nobody_waits(name);
      if (region->publish_over || late) {
        region->publish_over = true;  // Who has more patience need not have it: he can ask again.
        changed->notify();
        co_return still_written(*region, parts_.quotas, why);
      }
      why.reset();
      pause = kAskAgain;
      co_await changed->wait();
      region = parts_.directory.find(id);
    }
    if (region == nullptr || region->record.state != RegionState::live) co_return ended(name);
    if (region->unwritable || region->record.published_unix_ns != 0) co_return ok();
    if (asker.gone()) co_return nobody_waits(name);
    const Result<void> done = co_await forbid_writing(id);
    region = parts_.directory.find(id);
    if (done || done.error().code != ErrorCode::busy || region == nullptr) co_return done;
    why = done.error();
    if (region->publish_over || late) {
      region->publish_over = true;
      changed->notify();
      co_return still_written(*region, parts_.quotas, why);
    }
    if (asker.gone()) continue;
    const Loop::Timer pause_over = parts_.loop.after(pause, [paused] { paused->notify(); });
    co_await paused->wait();
  }
}

/// On a thread that nobody else waits for: an attempt that finds pages pinned waits for them.
Task<Result<void>> Regions::forbid_writing(RegionId id) {
  Region* region = parts_.directory.find(id);
  pool::Pool& pool = *region->pool->pool;
  auto forbid = [&pool, &extent = region->extent] { return pool.forbid_writing(extent); };
  ++region->issuing;  // Its memory stays meanwhile.
  const Result<void> done = co_await parts_.sealer.run(forbid);
  region = parts_.directory.find(id);
  --region->issuing;
  if (done) region->unwritable = true;
  region->changed->notify();
  co_return done;
}

/// Once nobody can write it.
Task<Result<void>> Regions::record_published(RegionId id) {
  Region* region = parts_.directory.find(id);
  if (region == nullptr || region->record.state != RegionState::live) {
    co_return failure(ErrorCode::busy, "the region ended meanwhile");
  }
  // At once, so that whatever else is recorded meanwhile has it too. Two that come here together record the same.
  if (region->record.published_unix_ns == 0) region->record.published_unix_ns = parts_.clock.unix_ns();
  const RegionRecord record = region->record;
  const Result<void> written = co_await parts_.ledger.put(record, strength_of(record));
  region = parts_.directory.find(id);
  if (region == nullptr) co_return failure(ErrorCode::busy, "region " + record.name + " ended meanwhile");
  if (!written) {
    // Unwritable all the same, which nobody can take back: so it is recorded as soon as the ledger takes it.
    if (!region->published) region->record.published_unix_ns = 0;
    if (!std::exchange(region->recording_later, true)) spawn(record_later(id));
    Failure told = written.error();
    told.sentence += "; nobody can write region " + record.name +
                     " any more, and it is published as soon as the ledger takes it";
    co_return told;
  }
  // Another's attempt to record it may have failed meanwhile.
  region->record.published_unix_ns = record.published_unix_ns;
  region->published = record.published_unix_ns;
  co_await region->pool->confiner->tell_published(id, record.published_unix_ns);
  co_return ok();
}

/// The broker before died behind the seal, or before the grants that are out were told.
Task<void> Regions::resume_publish(RegionId id) {
  if (const Region* known = parts_.directory.find(id); known->published) {
    const std::int64_t since = *known->published;
    co_await known->pool->confiner->tell_published(id, since);
    co_return;
  }
  (void)co_await record_published(id);
}

/// The memory can be written no more, and the ledger has refused to say so. As long as there is a region: what ends it
/// asks the same ledger, and where that refuses too the region lives on.
Task<void> Regions::record_later(RegionId id) {
  for (;;) {
    co_await parts_.loop.sleep(kRecordAgain);  // What is wrong with the ledger is told already.
    Region* region = parts_.directory.find(id);
    if (region == nullptr) co_return;
    if (!region->published && region->record.state != RegionState::live) continue;
    if (!region->published) (void)co_await record_published(id);
    region = parts_.directory.find(id);
    if (region == nullptr) co_return;
    if (!region->published) continue;
    region->recording_later = false;
    co_return;
  }
}

}  // namespace mapcap::broker
