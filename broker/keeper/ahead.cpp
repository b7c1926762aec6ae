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
}

std::optional<confine::Blank> CloneConfiner::take_blank(const confine::BlankSource& source, Access rights) {
  if (!board_ || !issuer_) return std::nullopt;
  const BlankKind kind{source.pool, rights};
  Stock<confine::Blank>& stock = stocks_[kind];
  std::optional<confine::Blank> blank = stock.take(keeper_.now());
  // The keeper's queue was full for a moment.
  if (blank && !keeper_.holds(blank->region)) blank.reset();
  refill(kind, source);
  if (!watches_idle_) {
    watches_idle_ = true;
    idle_timer_ = loop_->after(Stock<confine::Blank>::kIdle, [this] { look_for_idle(); });
  }
  return blank;
}

void CloneConfiner::refill(const BlankKind& kind, const confine::BlankSource& source) {
  Stock<confine::Blank>& stock = stocks_.at(kind);
  if (stock.missing(kMostReady) == 0) return;  // Mostly: nothing more is asked.
  std::size_t others = 0;
  for (const auto& [other, its] : stocks_) {
    if (other != kind) others += its.ready() + its.on_their_way();
  }
  descriptors_ = descriptor_limit();
  const std::size_t all = std::min<std::size_t>({kMostReady * 2, descriptors_ / 16, keeper_.room() / 4});
  std::size_t count = stock.missing(std::min(kMostReady, all - std::min(all, others)));
  // Before it runs out of places: the keeper reads in order, and this costs nobody anything now.
  if (count > 0 && board_->has_unread() && keeper_.tell({wire::Kind::named})) board_->told();
  while (count > 0) {
    Issuer::Ahead batch;
    for (; count > 0 && batch.orders.size() < kBatch; --count) {
      const confine::GrantId grant = next_grant_;
      const std::optional<std::uint32_t> place = board_->reserve(grant);
      if (!place) break;
      ++next_grant_;
      batch.orders.push_back({source.next_id(), grant, kind.second, *place});
    }
    if (batch.orders.empty()) break;
    stock.ordered(batch.orders.size());
    batch.path = path_;
    batch.device = device_;
    batch.forge = forge_;
    batch.memory = source.memory;
    batch.done = [this, life = std::weak_ptr<const bool>(life_), kind,
                  path = path_](std::vector<MadeBlank> all_made) {
      if (life.expired()) return;
      for (MadeBlank& made : all_made) blank_made(kind, path, std::move(made));
      keeper_.flush();
    };
    issuer_->make(std::move(batch));
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
  // Those that come meanwhile take the lowest numbers that are free: half of them are for regions and connections.
  const bool fits = made.memory.valid() && static_cast<std::uint64_t>(made.memory.get()) < descriptors_ / 2;
  if (!board_ || !made.clone || !fits || stock.idle(keeper_.now())) {
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
  Ahead told{0, blanks_used_};
  for (const auto& [kind, stock] : stocks_) told.ready += stock.ready();
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
  watches_idle_ = !stocks_.empty();
  if (watches_idle_) idle_timer_ = loop_->after(Stock<confine::Blank>::kIdle, [this] { look_for_idle(); });
}

}  // namespace mapcap::broker::keeper
