// What the clone confiner makes ahead of need: blanks.
//
// A blank is a memfd without size, whose clone is open and whose second descriptor the keeper has. It has the number of
// the region that it may become, so that keeper and ledger need no other name for it: one that a broker's death left
// behind is memory that no record names. The issuing thread makes them in batches, while nobody waits for it.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "broker/keeper/clone.h"
#include "broker/keeper/device.h"
#include "broker/keeper/label_blob.h"

namespace mapcap::broker::keeper {
namespace {

/// Ready of one kind, where descriptors allow.
constexpr std::size_t kMostReady = 64;
/// What the thread makes between two answers to the loop.
constexpr std::size_t kBatch = 16;

/// Each takes two descriptors here; all kinds together may have an eighth of what there is.
rlim_t descriptor_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

struct BlankOrder {
  RegionId region;
  confine::GrantId grant = 0;
  Access rights = Access::read_only;
  std::uint32_t place = 0;  ///< On the LabelBoard.
};

}  // namespace

/// What came of an order.
struct MadeBlank {
  BlankOrder order;
  std::int32_t backing_id = 0;  ///< 0: it has none. Closed by whoever gets this, also when the rest failed.
  Fd memory;
  Result<Fd> clone = failure(ErrorCode::unavailable, "not made");
};

namespace {

/// Blanks that the issuing thread is to make, and those that it has made.
struct BlanksToMake {
  std::shared_ptr<IssuePath> path;
  std::shared_ptr<Device> device;
  std::shared_ptr<Forge> forge;
  std::function<Result<Fd>()> memory;
  std::vector<BlankOrder> orders;
  std::vector<MadeBlank> made;

  /// False when that was the last. After one that could not be made the rest is not tried.
  bool make_one() {
    if (made.empty()) return begin();
    MadeBlank& one = made.at(opened_++);
    static const std::string no_label = encode_label({}).value();
    const Opening opening{one.order.grant, one.order.region, one.backing_id, {}, one.order.rights, {}, 0,
                          no_label,        one.order.place};
    one.clone = open_clone(*path, opening);
    return one.clone.has_value() && opened_ < made.size();
  }

 private:
  /// The memory of all, which is registered together: whoever has the power for that is asked once.
  bool begin() {
    std::vector<BorrowedFd> files;
    bool all = true;
    for (const BlankOrder& order : orders) {
      MadeBlank& one = made.emplace_back();
      one.order = order;
      Result<Fd> fresh = all ? memory() : Result<Fd>(Fd());
      all = all && fresh.has_value();
      if (!all) continue;
      one.memory = std::move(fresh.value());
      files.push_back(one.memory.borrow());
    }
    if (!all) return false;
    Result<std::vector<std::int32_t>> ids = device->open_backings_beside(*forge, files);
    if (!ids) return false;
    for (std::size_t i = 0; i < made.size(); ++i) made[i].backing_id = ids.value()[i];
    return true;
  }

  std::size_t opened_ = 0;
};

}  // namespace

void CloneConfiner::begin_blanks() {
  if (!path_ || board_) return;
  Result<LabelBoard> board = LabelBoard::create();
  if (board && keeper_.give_board(board.value().fd())) board_.emplace(std::move(board.value()));
}

void CloneConfiner::end_blanks() {
  // Each one's end says what was prepared for it, which asks for the board no more.
  board_.reset();
  for (auto& [kind, stock] : stocks_) {
    const std::deque<confine::Blank> gone = stock.clear();
  }
  const std::vector<ReadyOpen> opens = opens_.drop_all();
}

std::optional<confine::Blank> CloneConfiner::take_blank(const confine::BlankSource& source, Access rights) {
  if (!board_ || !issuer_) return std::nullopt;
  const BlankKind kind{source.pool, rights};
  Stock<confine::Blank>& stock = stocks_[kind];
  std::optional<confine::Blank> blank = stock.take(keeper_.now());
  // The keeper's queue was full for a moment.
  if (blank && !keeper_.holds(blank->region)) blank.reset();
  refill(kind, source);
  watch_idle();
  return blank;
}

std::size_t CloneConfiner::blanks_ahead() const {
  std::size_t all = 0;
  for (const auto& [kind, stock] : stocks_) all += stock.ready() + stock.on_their_way();
  return all;
}

std::size_t CloneConfiner::room_ahead() {
  descriptors_ = descriptor_limit();
  return std::min<std::size_t>({kMostReady * 2, descriptors_ / 16, keeper_.room() / 4});
}

bool CloneConfiner::fits(BorrowedFd made) const {
  // Those that come meanwhile take the lowest numbers that are free: half of them are for regions and connections.
  return made.valid() && static_cast<std::uint64_t>(made.get()) < descriptors_ / 2;
}

void CloneConfiner::tell_named() {
  if (board_->has_unread() && keeper_.tell({wire::Kind::named})) board_->told();
}

void CloneConfiner::refill(const BlankKind& kind, const confine::BlankSource& source) {
  Stock<confine::Blank>& stock = stocks_.at(kind);
  if (stock.missing(kMostReady) == 0) return;  // Mostly: nothing more is asked.
  const std::size_t others = blanks_ahead() - stock.ready() - stock.on_their_way() + opens_.all();
  const std::size_t all = room_ahead();
  std::size_t count = stock.missing(std::min(kMostReady, all - std::min(all, others)));
  if (count > 0) tell_named();
  while (count > 0) {
    auto work = std::make_shared<BlanksToMake>();
    for (; count > 0 && work->orders.size() < kBatch; --count) {
      const confine::GrantId grant = next_grant_;
      const std::optional<std::uint32_t> place = board_->reserve(grant);
      if (!place) break;
      ++next_grant_;
      work->orders.push_back({source.next_id(), grant, kind.second, *place});
    }
    if (work->orders.empty()) break;
    stock.ordered(work->orders.size());
    work->path = path_;
    work->device = device_;
    work->forge = forge_;
    work->memory = source.memory;
    Issuer::Ahead ahead;
    ahead.step = [work] { return work->make_one(); };
    ahead.done = [this, life = std::weak_ptr<const bool>(life_), kind, work] {
      if (life.expired()) return;
      for (MadeBlank& made : work->made) blank_made(kind, work->path, std::move(made));
      keeper_.flush();
    };
    issuer_->make(std::move(ahead));
  }
}

void CloneConfiner::blank_made(const BlankKind& kind, const std::shared_ptr<IssuePath>& path,
                               MadeBlank made) {
  Stock<confine::Blank>& stock = stocks_.at(kind);
  // Of a keeper that is gone: so are its backings.
  if (path != path_) return stock.failed();
  const RegionId region = made.order.region;
  if (made.backing_id != 0) attached_.insert_or_assign(region.value, Attached{made.backing_id, false, true});
  const std::weak_ptr<const void> made_by = path;
  const std::uint32_t place = made.order.place;
  if (!board_ || !made.clone || !fits(made.memory.borrow()) || stock.idle(keeper_.now())) {
    forget_blank(region, place, made_by);
    return stock.failed();
  }
  confine::Blank blank(region, made.order.grant, kind.second, std::move(made.memory),
                       std::move(made.clone.value()));
  blank.made_by = made_by;
  blank.place = place;
  blank.undo = [this, life = std::weak_ptr<const bool>(life_), region, place, made_by] {
    if (!life.expired()) forget_blank(region, place, made_by);
  };
  keeper_.hold_blank(region, blank.memory.borrow());
  stock.arrived(std::move(blank));
}

void CloneConfiner::forget_blank(RegionId region, std::uint32_t place,
                                 const std::weak_ptr<const void>& made_by) {
  keeper_.let_go(region);
  if (made_by.lock() != path_ || !path_) return;  // Its number may be another's with the next keeper.
  detach(region);
  if (board_) board_->give_back(place);
}

Result<void> CloneConfiner::name_blank(confine::Blank& blank, BorrowedFd memory,
                                       const confine::Label& label) {
  MAPCAP_TRY(std::string blob, encode_label(label));
  const auto known = attached_.find(blank.region.value);
  if (!board_ || blank.made_by.lock() != path_ || known == attached_.end())
    return failure(ErrorCode::unavailable, "the keeper that a grant was made through is gone");
  // As attach() does it, of memory that nobody else has seen: it has no other flags.
  int flags = FS_APPEND_FL;
  // SAFETY: despite its declaration FS_IOC_SETFLAGS reads one int.
  known->second.guarded = ::ioctl(memory.get(), FS_IOC_SETFLAGS, &flags) == 0;
  board_->write(blank.place, {label.size, label.holder, std::move(blob)});
  return ok();
}

std::optional<confine::Issued> CloneConfiner::issue_blank(confine::Blank& blank) {
  if (!path_ || blank.made_by.lock() != path_ || !blank.clone.valid()) return std::nullopt;
  granted_.insert(blank.grant);
  ++blanks_used_;
  return confine::Issued{std::move(blank.clone), blank.grant};
}

confine::Confiner::Ahead CloneConfiner::ahead() const {
  Ahead told{0, blanks_used_, opens_.ready(), opens_used_};
  for (const auto& [kind, stock] : stocks_) told.blanks += stock.ready();
  return told;
}

/// Gone when idle.
void CloneConfiner::look_for_idle() {
  const KeeperLink::Time now = keeper_.now();
  for (auto at = stocks_.begin(); at != stocks_.end();) {
    if (at->second.idle(now)) const std::deque<confine::Blank> gone = at->second.clear();
    const bool over = at->second.idle(now) && at->second.on_their_way() == 0;
    at = over ? stocks_.erase(at) : std::next(at);
  }
  for (ReadyOpen& ready : opens_.drop_idle(now)) throw_away(std::move(ready));
  watches_idle_ = false;
  if (!stocks_.empty() || !opens_.empty()) watch_idle();
}

void CloneConfiner::watch_idle() {
  if (std::exchange(watches_idle_, true)) return;
  idle_timer_ = loop_->after(Stock<confine::Blank>::kIdle, [this] { look_for_idle(); });
}

}  // namespace mapcap::broker::keeper
