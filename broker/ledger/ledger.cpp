// Ties the table, the commit and the superblock together behind the Ledger interface.
#include "broker/ledger/ledger.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "broker/ledger/commit.h"
#include "broker/ledger/health.h"
#include "broker/ledger/medium/medium_file.h"
#include "broker/ledger/recovery.h"
#include "broker/ledger/table/key_locks.h"
#include "broker/ledger/table/record_layout.h"

namespace mapcap::broker::ledger {

using broker::Task;

namespace {

// Record ids lie between: 0 is no id, and the top is far above what a ledger ever numbers.
constexpr std::uint64_t kSuperblockKey = 0;
constexpr std::uint64_t kGrowthKey = ~std::uint64_t{0};
constexpr std::uint64_t kHighestId = std::uint64_t{1} << 62U;
/// The table doubles until it grows by this much at a time: 64 MiB.
constexpr std::uint32_t kMostGrowth = 1U << 18U;

void store_superblock(Medium& medium, const Superblock& superblock, std::size_t copy, Step step) {
  const SuperblockImage image = encode(superblock);
  medium.store(superblock_range(copy).offset, image);
  medium.flush(superblock_range(copy), step);
}

/// A damaged copy is written first, so that one good one is there at any time.
std::size_t first_copy(const std::array<bool, 2>& intact) {
  return intact[0] && !intact[1] ? 1 : 0;
}

class TableLedger final : public Ledger {
 public:
  TableLedger(std::shared_ptr<Medium> medium, Opened opened, broker::Loop& loop, broker::Worker& worker)
      : medium_(std::move(medium)),
        worker_(worker),
        superblock_(opened.superblock),
        table_(std::move(opened.table)),
        commit_(medium_, loop, worker),
        locks_(loop),
        recovered_(std::move(opened.recovered)),
        next_id_(opened.next_id) {
    for (const Reading::Quota& quota : opened.quotas) {
      quota_ids_[{quota.record.subject, quota.record.id, quota.record.pool}] = quota.id;
    }
    for (Reading::Endpoint& endpoint : opened.endpoints)
      texts_[endpoint.record.number] = std::move(endpoint.texts);
  }

  [[nodiscard]] std::uint32_t identity() const override { return superblock_.salt; }

  Recovered take_recovered() override { return std::exchange(recovered_, {}); }

  RegionId next_id() override {
    const RegionId id{next_id_++};
    if (next_id_ + kIdChunk / 2 > superblock_.next_id && !closing_ && !locks_.held(kSuperblockKey)) {
      broker::spawn(reserve_ahead());
    }
    return id;
  }

  Task<Result<void>> put(RegionRecord record, Strength strength) override {
    SlotImage image;
    MAPCAP_CO_TRY_VOID(encode(record, image));
    if (record.id.value == 0 || record.id.value > kHighestId) {
      co_return failure(ErrorCode::invalid, "a region's id must come from the ledger");
    }
    const KeyLocks::Guard held = co_await locks_.lock(record.id.value);
    Result<void> written = co_await write(image, SlotKind::region, record.id.value, strength);
    health_.changed(record.id.value, written);
    co_return written;
  }

  Task<Result<void>> erase(RegionId id, Strength strength) override {
    if (id.value == 0 || id.value > kHighestId) co_return ok();
    const KeyLocks::Guard held = co_await locks_.lock(id.value);
    Result<void> removed = co_await remove(id.value, strength);
    health_.changed(id.value, removed);
    co_return removed;
  }

  Task<Result<void>> put_quota(QuotaRecord record) override {
    SlotImage image;
    MAPCAP_CO_TRY_VOID(encode(record, image));
    std::uint64_t& known = quota_ids_[{record.subject, record.id, record.pool}];
    if (known == 0) known = next_id().value;
    const std::uint64_t id = known;
    const KeyLocks::Guard held = co_await locks_.lock(id);
    Result<void> written = co_await write(image, SlotKind::quota, id, Strength::power);
    health_.changed(id, written);
    co_return written;
  }

  Task<Result<void>> erase_quota(SubjectKind subject, std::uint32_t subject_id, std::string pool) override {
    const auto known = quota_ids_.find({subject, subject_id, std::move(pool)});
    if (known == quota_ids_.end()) co_return ok();
    // The slot of the quotas keeps its id, so that no two records can ever stand for one.
    const std::uint64_t id = known->second;
    const KeyLocks::Guard held = co_await locks_.lock(id);
    Result<void> removed = co_await remove(id, Strength::power);
    health_.changed(id, removed);
    co_return removed;
  }

  Task<Result<void>> put_endpoint(EndpointRecord record) override {
    SlotImage image;
    MAPCAP_CO_TRY(const std::string text, text_of(record));
    MAPCAP_CO_TRY_VOID(encode(record, text.size(), image));
    const std::uint64_t number = record.number;
    if (number == 0 || number > kHighestId)
      co_return failure(ErrorCode::invalid, "an endpoint's number must come from the ledger");
    const KeyLocks::Guard held = co_await locks_.lock(number);
    Result<void> written = ok();
    const bool fresh = !texts_.contains(number);
    if (fresh) written = co_await write_texts(number, text);
    // Last, when its text is durable: with this slot it exists.
    if (written) written = co_await write(image, SlotKind::endpoint, number, Strength::power);
    if (!written && fresh) co_await remove_texts(number);
    health_.changed(number, written);
    co_return written;
  }

  Task<Result<void>> erase_endpoint(std::uint64_t number) override {
    if (number == 0 || number > kHighestId) co_return ok();
    const KeyLocks::Guard held = co_await locks_.lock(number);
    Result<void> removed = co_await remove(number, Strength::power);
    if (removed) co_await remove_texts(number);
    health_.changed(number, removed);
    co_return removed;
  }

  void on_trouble(std::function<void(const Failure*)> told) override { health_.tell(std::move(told)); }
  [[nodiscard]] const std::optional<Failure>& trouble() const override { return health_.trouble(); }

  Task<Result<void>> close() override {
    closing_ = true;
    const KeyLocks::Guard growth = co_await locks_.lock(kGrowthKey);
    const KeyLocks::Guard superblock = co_await locks_.lock(kSuperblockKey);
    medium_->flush({kSlotsOffset, std::size_t{table_->capacity()} * kSlotSize}, Step::closing);
    co_return co_await commit_.durable(Step::closing);
  }

  [[nodiscard]] Granularity granularity() const override { return medium_->granularity(); }

  /// At opening, when no loop runs yet: a first reservation, and both superblocks whole.
  Result<void> reserve_at_start(const std::array<bool, 2>& intact) {
    Superblock next = superblock_;
    ++next.sequence;
    next.next_id = next_id_ + kIdChunk;
    const std::size_t first = first_copy(intact);
    store_superblock(*medium_, next, first, Step::start_first);
    MAPCAP_TRY_VOID(settle(*medium_, Step::start_first));
    store_superblock(*medium_, next, 1 - first, Step::start_second);
    MAPCAP_TRY_VOID(settle(*medium_, Step::start_second));
    superblock_ = next;
    return ok();
  }

 private:
  /// Of an endpoint, whose key is held. No text is ever changed: its slots have ids that are used once.
  Task<Result<void>> write_texts(std::uint64_t number, const std::string& text) {
    texts_.try_emplace(number);
    for (std::size_t i = 0; i < texts_for(text.size()); ++i) {
      const std::uint64_t id = next_id().value;
      SlotImage image;
      encode_text(number, i, text, image);
      MAPCAP_CO_TRY_VOID(co_await write(image, SlotKind::endpoint_text, id, Strength::power));
      texts_[number].push_back(id);
    }
    co_return ok();
  }

  /// What the medium refuses to take away belongs to nobody, and goes at the next opening.
  Task<void> remove_texts(std::uint64_t number) {
    auto texts = texts_.extract(number);
    if (texts.empty()) co_return;
    for (const std::uint64_t id : texts.mapped()) (void)co_await remove(id, Strength::power);
  }

  Task<Result<void>> write(SlotImage& image, SlotKind kind, std::uint64_t id, Strength strength) {
    if (id >= superblock_.next_id) {
      MAPCAP_CO_TRY_VOID(co_await update_superblock(superblock_.capacity, id + kIdChunk));
    }
    for (;;) {
      MAPCAP_CO_TRY(const std::optional<Table::Put> put, table_->begin_put(image, kind, id, strength));
      if (!put) {
        MAPCAP_CO_TRY_VOID(co_await make_room(id));
        continue;
      }
      if (put->strength == Strength::power) {
        Result<void> durable = co_await commit_.durable(Step::put);
        if (!durable) {
          table_->undo(*put);
          co_return durable;
        }
      }
      table_->finish(*put);
      break;
    }
    if (table_->free_slots() < table_->capacity() / 8 && !growth_refused_ && !closing_ &&
        !locks_.held(kGrowthKey)) {
      broker::spawn(grow_ahead());
    }
    co_return ok();
  }

  Task<Result<void>> remove(std::uint64_t id, Strength strength) {
    MAPCAP_CO_TRY(const std::optional<Table::Erase> erase, table_->begin_erase(id, strength));
    if (!erase) co_return ok();
    if (erase->strength == Strength::power) {
      Result<void> durable = co_await commit_.durable(Step::erase);
      if (!durable) {
        table_->undo(*erase);
        co_return durable;
      }
    }
    table_->finish(*erase);
    co_return ok();
  }

  /// Returns when a change of this id had room at some moment since the call.
  Task<Result<void>> make_room(std::uint64_t id) {
    const KeyLocks::Guard held = co_await locks_.lock(kGrowthKey);
    if (table_->has_room_for(id)) co_return ok();
    co_return co_await grow();
  }

  Task<void> grow_ahead() {
    const KeyLocks::Guard held = co_await locks_.lock(kGrowthKey);
    // Nobody waits for this one. When it fails, the put that finds the table full will try again and tell.
    const Result<void> grown = co_await grow();
    growth_refused_ = !grown.has_value();
  }

  /// The growth key is held.
  Task<Result<void>> grow() {
    const std::uint32_t capacity = table_->capacity();
    const std::uint32_t larger = capacity + std::min(capacity, kMostGrowth);
    const std::size_t size = kSlotsOffset + std::size_t{larger} * kSlotSize;
    auto enlarge = [medium = medium_, size] { return medium->grow(size); };
    Result<void> grown = co_await worker_.run(enlarge);
    if (!grown) {
      Failure error = std::move(grown).error();
      error.sentence = "the ledger " + std::string(medium_->name()) + " is full (" +
                       std::to_string(capacity) + " slots) and cannot grow; free space on its file system. " +
                       error.sentence;
      co_return error;
    }
    medium_->adopt_growth();
    MAPCAP_CO_TRY_VOID(co_await update_superblock(larger, superblock_.next_id));
    table_->extend(larger);
    growth_refused_ = false;
    co_return ok();
  }

  Task<void> reserve_ahead() {
    // Nobody waits for this one either: a put whose id is not reserved yet tries again and tells.
    [[maybe_unused]] const Result<void> ignored =
        co_await update_superblock(superblock_.capacity, next_id_ + kIdChunk);
  }

  /// Raises what the superblock promises; both copies are durable, one after the other, when this returns.
  Task<Result<void>> update_superblock(std::uint64_t capacity, std::uint64_t next_id) {
    const KeyLocks::Guard held = co_await locks_.lock(kSuperblockKey);
    Superblock next = superblock_;
    next.capacity = std::max(next.capacity, capacity);
    next.next_id = std::max(next.next_id, next_id);
    if (next == superblock_ && intact_[0] && intact_[1]) co_return ok();
    ++next.sequence;
    // A refused superblock that shows up after all does no harm: both of its promises may be kept early.
    const std::size_t first = first_copy(intact_);
    store_superblock(*medium_, next, first, Step::superblock_first);
    intact_[first] = false;
    MAPCAP_CO_TRY_VOID(co_await commit_.durable(Step::superblock_first));
    intact_[first] = true;
    superblock_ = next;
    store_superblock(*medium_, next, 1 - first, Step::superblock_second);
    intact_[1 - first] = false;
    MAPCAP_CO_TRY_VOID(co_await commit_.durable(Step::superblock_second));
    intact_[1 - first] = true;
    co_return ok();
  }

  using QuotaKey = std::tuple<SubjectKind, std::uint32_t, std::string>;

  std::shared_ptr<Medium> medium_;
  broker::Worker& worker_;
  Superblock superblock_;
  std::array<bool, 2> intact_{true, true};
  std::unique_ptr<Table> table_;
  Commit commit_;
  KeyLocks locks_;
  Health health_;
  Recovered recovered_;
  std::uint64_t next_id_;
  std::map<QuotaKey, std::uint64_t> quota_ids_;
  std::map<std::uint64_t, std::vector<std::uint64_t>> texts_;  ///< Of each endpoint, its slots of text.
  bool growth_refused_ = false;
  bool closing_ = false;
};

}  // namespace

Result<std::unique_ptr<Ledger>> open_on(std::shared_ptr<Medium> medium, broker::Loop& loop,
                                        broker::Worker& worker) {
  MAPCAP_TRY(Opened opened, recover(*medium));
  const std::array<bool, 2> intact = opened.intact;
  auto ledger = std::make_unique<TableLedger>(std::move(medium), std::move(opened), loop, worker);
  MAPCAP_TRY_VOID(ledger->reserve_at_start(intact));
  return std::unique_ptr<Ledger>(std::move(ledger));
}

Result<std::unique_ptr<Ledger>> Ledger::open(const std::string& path, broker::Loop& loop,
                                             broker::Worker& worker) {
  MAPCAP_TRY(std::shared_ptr<Medium> medium, open_or_create_file(path));
  return open_on(std::move(medium), loop, worker);
}

}  // namespace mapcap::broker::ledger
