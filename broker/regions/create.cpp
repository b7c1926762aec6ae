// Create: what the policy allows, filled in and carried out step by step.
#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "broker/ledger/strength.h"
#include "broker/regions/regions.h"
#include "policy/plan.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using ledger::RegionRecord;
using policy::Verb;

namespace {

constexpr std::uint64_t kLargestRegion = std::numeric_limits<std::int64_t>::max();

/// What a region of this size would have, where the size can be rounded up at all.
Result<ByteCount> size_in(const ServedPool& served, ByteCount asked, CacheMode mode, std::uint64_t used) {
  const pool::Facts& facts = served.facts();
  if (asked.value > kLargestRegion - facts.granule.value) {
    return failure(
        ErrorCode::pool_full,
        "pool " + facts.name + " has " + format_bytes(facts.capacity) + ", not " + format_bytes(asked),
        {{"slot", "pool " + facts.name},
         {"used", std::to_string(used)},
         {"limit", std::to_string(facts.capacity.value)},
         {"asked", std::to_string(asked.value)}});
  }
  return served.pool->size_for(asked, mode);
}

/// Connections, grants on their way and what the broker opens for a moment need descriptors too, or nobody
/// could revoke what has taken them all. The kernel gives the lowest number that is free: a high one says how
/// many are in use.
Result<void> leaves_descriptors(BorrowedFd memory, std::uint32_t connections) {
  constexpr rlim_t kForTheMoment = 128;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return ok();
  const rlim_t kept = std::min<rlim_t>(connections + kForTheMoment, limit.rlim_cur / 4);
  if (!memory.valid() || static_cast<rlim_t>(memory.get()) < limit.rlim_cur - kept) return ok();
  return failure(ErrorCode::exhausted,
                 "the broker has no descriptor left for another region: it may have " +
                     std::to_string(limit.rlim_cur) +
                     " (RLIMIT_NOFILE, LimitNOFILE= of its unit), of which " + std::to_string(kept) +
                     " are kept for connections; revoke regions, or raise the limit",
                 {{"limit_name", "RLIMIT_NOFILE"},
                  {"limit", std::to_string(limit.rlim_cur)},
                  {"used", std::to_string(memory.get())}});
}

}  // namespace

/// Memory that was carved and is no region yet. It is undone off the loop, since what was populated takes as
/// long to free as it took to make, and stays charged until that is done.
class Regions::Carved {
 public:
  Carved(const Parts& parts, pool::Extent made, Charge charge)
      : extent(std::move(made)), parts_(parts), charge_(std::move(charge)) {}
  Carved(Carved&&) = default;
  Carved& operator=(Carved&&) = delete;
  ~Carved() {
    if (extent.empty() || extent.pool().quick()) return;
    auto undone = std::make_shared<std::pair<pool::Extent, Charge>>(std::move(extent), std::move(charge_));
    parts_.scrubber.submit([undone = std::move(undone), &loop = parts_.loop]() mutable {
      undone->first = pool::Extent();
      loop.post([undone = std::move(undone)]() mutable { undone.reset(); });
    });
  }
  Charge take_charge() { return std::move(charge_); }

  pool::Extent extent;

 private:
  const Parts& parts_;
  Charge charge_;
};

/// A create that the policy allows, with everything that was left open filled in.
struct Regions::Plan {
  ServedPool* pool = nullptr;
  RegionRecord record;
};

std::vector<policy::Offer> Regions::offers() const {
  std::vector<policy::Offer> offers;
  for (const auto& served : parts_.pools) {
    const pool::Facts& facts = served->facts();
    offers.push_back(
        {facts.name, facts.seals, facts.cache_modes, [this, &served](ByteCount asked, CacheMode mode) {
           return size_in(*served, asked, mode, parts_.quotas.pool_used(served->facts().name));
         }});
  }
  return offers;
}

Result<Regions::Plan> Regions::plan_create(const Caller& caller, const schema::Create& ask) const {
  const policy::Subject& subject = caller.subject;
  MAPCAP_TRY(const policy::Plan made, policy::plan_create(*policy_, subject, ask, offers()));

  caller.allowed_by(made.permit);
  Plan plan;
  plan.pool = parts_.pools[made.offer].get();
  const pool::Facts& facts = plan.pool->facts();
  RegionRecord& record = plan.record;
  record.name = ask.name;
  record.pool = facts.name;
  record.owner = subject.uid();
  record.group = made.group;
  record.mode = ask.mode;
  record.cache = ask.cache;
  record.cache_effective = made.cache;
  record.size = made.size;
  record.seal = made.seal;
  record.lifetime = ask.lifetime.kind;
  record.volatile_memory = facts.volatile_memory;
  record.boot = parts_.boot;
  record.created_unix_ns = parts_.clock.unix_ns();
  if (ask.lifetime.kind == LifetimeKind::ttl) start_ttl(record, ask.lifetime.ttl, parts_.boot, parts_.clock);
  if (ask.lifetime.kind == LifetimeKind::connection) record.session = caller.token;
  return plan;
}

/// What was made ahead serves where making it would take no longer than that, and nothing of it is to be filled.
std::optional<confine::Blank> Regions::take_blank(const Plan& plan, std::optional<Access> grant) {
  const std::shared_ptr<pool::Pool>& pool = plan.pool->pool;
  if (!grant || !pool->makes_blanks()) return std::nullopt;
  const confine::BlankSource source{pool.get(), [pool] { return pool->blank(); },
                                    [this] { return parts_.ledger.next_id(); }};
  std::optional<confine::Blank> blank = plan.pool->confiner->take_blank(source, *grant);
  // Of those that had a name, the newest has the highest number.
  const Region* before = blank ? parts_.directory.find_or_latest(plan.record.name) : nullptr;
  if (before != nullptr && before->id() > blank->region) return std::nullopt;
  return blank;
}

Task<Result<Delivery>> Regions::create(Caller caller, schema::Create ask) {
  if (ending_) co_return failure(ErrorCode::unavailable, "mapcapd is shutting down");
  ++creating_;
  const Undo created([this] { --creating_; });
  MAPCAP_CO_TRY(Plan plan, plan_create(caller, ask));
  RegionRecord& record = plan.record;
  pool::Pool& pool = *plan.pool->pool;
  MAPCAP_CO_TRY(Directory::Reservation reservation, parts_.directory.reserve(record.name));
  const Region* lost = parts_.directory.find(record.name);
  const RegionId lost_id = lost != nullptr ? lost->id() : RegionId{};

  const Amount cost{record.size.value, 1, 0, 0};
  MAPCAP_CO_TRY(Charge charge, parts_.quotas.reserve({record.owner, caller.subject.shared_groups(),
                                                      record.pool, caller.subject.user()},
                                                     cost));
  std::optional<confine::Blank> blank = take_blank(plan, ask.grant);
  record.id = blank ? blank->region : parts_.ledger.next_id();

  const pool::Carving carving{record.id, record.size, record.seal, record.cache_effective};
  Result<pool::Extent> carved = failure(ErrorCode::io, "not carved");
  if (blank) {
    carved = pool.carve_blank(std::move(blank->memory), carving);
  } else if (pool.quick()) {
    carved = pool.carve(carving, nullptr);
  } else {
    auto tell = [this, session = caller.session, request = caller.request](ByteCount done, ByteCount total) {
      Worker::pause();
      parts_.loop.post([this, session, request, done, total] {
        schema::Notice notice;
        notice.kind = schema::NoticeKind::progress;
        notice.request = request;
        notice.done = done;
        notice.total = total;
        parts_.notifier.notify(session, notice);
      });
    };
    auto carve = [&pool, carving, tell] { return pool.carve(carving, tell); };
    carved = co_await parts_.worker.run(carve);
  }
  MAPCAP_CO_TRY(pool::Extent extent, std::move(carved));
  // A blank takes no more descriptors than it had.
  if (!blank) {
    MAPCAP_CO_TRY_VOID(leaves_descriptors(extent.fd(), policy_->broker().max_connections));
  }
  record.extent = extent.word();
  Carved made(parts_, std::move(extent), std::move(charge));
  if (blank) {
    const confine::Label label = label_of(record, *plan.pool, caller.subject, *ask.grant);
    const Result<void> named = plan.pool->confiner->name_blank(*blank, made.extent.fd(), label);
    // Its keeper may have died just now: then the next one is asked for a grant.
    if (!named && named.error().code != ErrorCode::unavailable) co_return named.error();
  }

  Undo let_go;
  if (record.volatile_memory) {
    MAPCAP_CO_TRY_VOID(co_await parts_.custody.hold(record.id, made.extent.fd()));
    let_go = Undo([this, id = record.id] { parts_.custody.drop(id); });
  }
  MAPCAP_CO_TRY_VOID(co_await parts_.ledger.put(record, strength_of(record)));
  let_go.disarm();
  if (blank) blank->keep();

  auto fresh = std::make_unique<Region>(parts_.loop);
  fresh->record = record;
  fresh->pool = plan.pool;
  fresh->extent = std::move(made.extent);
  fresh->extent.keep();
  fresh->charge = made.take_charge();
  Region& region = parts_.directory.add(std::move(fresh));
  Delivery delivery;
  delivery.undo = undo_create(region.id());
  if (lost_id.value != 0) reclaim_.revoke_in_background(lost_id);
  begin_lifetime(region, caller);

  schema::Granted granted;
  granted.rights = ask.grant.value_or(Access::read_only);
  if (ask.grant) {
    Result<confine::Issued> issued =
        co_await issue(record.id, caller.subject, *ask.grant, blank ? &*blank : nullptr);
    if (!issued) {
      // Undone before the refusal goes out, so that the name is free when the client asks again.
      delivery.undo.disarm();
      (void)co_await reclaim_.revoke(record.id, {});
      co_return issued.error();
    }
    delivery.fd = std::move(issued.value().fd);
    granted.with_fd = true;
  }
  granted.region = describe(*parts_.directory.find(record.id));
  delivery.body = std::move(granted);
  co_return delivery;
}

Undo Regions::undo_create(RegionId id) {
  return Undo([this, id] { reclaim_.revoke_in_background(id); });
}

}  // namespace mapcap::broker
