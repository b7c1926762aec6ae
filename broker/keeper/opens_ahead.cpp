// Opens that the clone confiner makes ahead of need, of regions that are opened again and again.
//
// Each is a fresh read-only open, as if it had been asked for, with a place on the board for whose it will be. Until
// somebody takes it nobody has it: it is in no book, and dropped as soon as its region is to be cut, published or let go
// of. Writable ones are not made ahead: whoever publishes would have to wait for their end.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "broker/keeper/clone.h"
#include "broker/keeper/device.h"

namespace mapcap::broker::keeper {
namespace {

/// What the thread makes between two answers to the loop.
constexpr std::size_t kBatch = 16;

/// Opens that the issuing thread is to make, and those that it has made.
class OpensToMake {
 public:
  OpensToMake(std::shared_ptr<IssuePath> through, ReadyOpens::Batch of, std::vector<Opening> wanted)
      : path(std::move(through)), batch(std::move(of)), openings(std::move(wanted)) {}
  OpensToMake(const OpensToMake&) = delete;
  OpensToMake& operator=(const OpensToMake&) = delete;
  /// Of what was begun and is not wanted any more the kernel tells the end, too.
  ~OpensToMake() { take_names(); }

  /// False when that was the last.
  bool make_one() {
    if (batch.wanted->load()) {
      Result<Fd> open = open_with_name(*path, openings[begun_++]);
      if (open) made.push_back(std::move(open.value()));
      if (open && begun_ < openings.size()) return true;
    }
    take_names();
    return false;
  }

  const std::shared_ptr<IssuePath> path;
  const ReadyOpens::Batch batch;
  const std::vector<Opening> openings;
  std::vector<Fd> made;  ///< Those of the first openings; once all is done.

 private:
  void take_names() {
    for (; unnamed_ < begun_; ++unnamed_) {
      if (!take_name(*path, openings[unnamed_])) made.clear();
    }
  }

  std::size_t begun_ = 0;
  std::size_t unnamed_ = 0;
};

}  // namespace

std::optional<confine::Issued> CloneConfiner::take_ready(RegionId region, const confine::Label& label,
                                                         const std::string& blob) {
  const auto known = attached_.find(region.value);
  if (!board_ || !issuer_ || !keeper_.knows_ready_opens() || known == attached_.end()) return std::nullopt;
  std::optional<ReadyOpen> ready = opens_.take(region, keeper_.now());
  order_opens(region, known->second.backing_id, label, blob);
  watch_idle();
  if (!ready) return std::nullopt;
  board_->write(ready->place, {label.size, label.holder, blob});
  granted_.insert(ready->grant);
  ++opens_used_;
  return confine::Issued{std::move(ready->fd), ready->grant};
}

void CloneConfiner::order_opens(RegionId region, std::int32_t backing_id, const confine::Label& label,
                                const std::string& blob) {
  if (opens_.missing(region, kMostReadyOpens) == 0) return;  // Mostly: nothing more is asked.
  const std::size_t all = room_ahead();
  std::size_t count = opens_.missing(region, std::min(kMostReadyOpens, all - std::min(all, blanks_ahead())));
  if (count > 0) tell_named();
  while (count > 0) {
    std::vector<Opening> openings;
    for (; count > 0 && openings.size() < kBatch; --count) {
      const confine::GrantId grant = next_grant_;
      const std::optional<std::uint32_t> place = board_->reserve(grant);
      if (!place) break;
      ++next_grant_;
      Opening opening;
      opening.grant = grant;
      opening.region = region;
      opening.backing_id = backing_id;
      opening.size = label.size;
      opening.published_unix_ns = label.published_unix_ns;
      opening.label = blob;
      opening.place = place;
      opening.of_region = true;
      openings.push_back(std::move(opening));
    }
    if (openings.empty()) break;
    ReadyOpens::Batch batch = opens_.ordered(region, openings.size());
    const auto work = std::make_shared<OpensToMake>(path_, std::move(batch), std::move(openings));
    Issuer::Ahead ahead;
    ahead.step = [work] { return work->make_one(); };
    ahead.done = [this, life = std::weak_ptr<const bool>(life_), work] {
      if (life.expired()) return;
      for (std::size_t i = 0; i < work->openings.size(); ++i)
        open_made(work->batch, work->path, work->openings[i],
                  i < work->made.size() ? std::move(work->made[i]) : Fd());
    };
    issuer_->make(std::move(ahead));
  }
}

void CloneConfiner::open_made(const ReadyOpens::Batch& batch, const std::shared_ptr<IssuePath>& path,
                              const Opening& opening, Fd made) {
  if (path != path_ || !board_) return opens_.failed(batch);  // Of a keeper that is gone: so is the board.
  ReadyOpen ready{opening.grant, *opening.place, std::move(made)};
  if (fits(ready.fd.borrow()) && opens_.asked_for(batch, keeper_.now()))
    return opens_.arrived(batch, std::move(ready));
  opens_.failed(batch);
  throw_away(std::move(ready));
}

void CloneConfiner::throw_away(ReadyOpen ready) {
  ready.fd.reset();
  if (board_) board_->give_back(ready.place);
}

void CloneConfiner::take_names(std::vector<std::string> names) {
  if (!path_ || names.empty()) return;
  // Before it opens anything: of what was asked for the keeper knows but the latest.
  issuer_->run([device = device_, names = std::move(names)] {
    for (const std::string& name : names) (void)device->forget_name(name);
  });
}

void CloneConfiner::drop_ready(RegionId region) {
  for (ReadyOpen& ready : opens_.drop(region)) throw_away(std::move(ready));
}

}  // namespace mapcap::broker::keeper
