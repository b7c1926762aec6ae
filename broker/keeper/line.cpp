// What is said over the keeper's socket, and who waits for it.
#include <sys/socket.h>

#include <algorithm>
#include <string>

#include "broker/keeper/client.h"

namespace mapcap::broker::keeper {

using wire::Kind;

namespace {

constexpr std::chrono::milliseconds kAfterFailure{20};
constexpr const char* kNoSense = "was ended because it made no sense";

/// What the keeper is to forget waits so long for more of it, or until it is so much: each time costs two messages, one
/// to the mint, and maybe a timer. Nobody is charged for any of it: it is empty.
constexpr std::chrono::milliseconds kForgottenWithin{5};
constexpr std::size_t kForgottenAtOnce = 32;

/// Packets of descriptors between two looks at the rest of the loop: a thousand regions.
constexpr int kBatchesAtOnce = 4;

}  // namespace

Task<Result<void>> KeeperClient::hold(RegionId region, BorrowedFd fd) {
  const Time until = now() + options_.issue_deadline;
  const std::shared_ptr<Waits> waits = waits_;
  guard(region, fd);
  while (!waits->over && !holdings_.held(region)) {
    if (is_full()) {
      drop(region);
      co_return failure(ErrorCode::exhausted, "the keeper holds " + std::to_string(max_held_) +
                                                  " regions, as many as fs.nr_open allows; raise that limit");
    }
    if (now() >= until) {
      drop(region);
      co_return failure(ErrorCode::unavailable, "no keeper took the region's memory into custody within " +
                                                    format_duration(options_.issue_deadline) + "; ask again");
    }
    const bool still = co_await wait(until);
    if (!still) break;
  }
  if (waits->over) co_return failure(ErrorCode::unavailable, "mapcapd is shutting down");
  co_return ok();
}

void KeeperClient::guard(RegionId region, BorrowedFd fd) {
  std::erase(dropped_, region.value);
  holdings_.add(region, fd);
  send_unsent();
}

void KeeperClient::guard_socket(RegionId number, BorrowedFd socket) {
  holdings_.add_socket(number, socket);
  send_unsent();
}

void KeeperClient::drop(RegionId region) {
  if (!holdings_.drop(region) || line_ == nullptr) return;
  dropped_.push_back(region.value);
  told_soon();
}

void KeeperClient::unbacked(RegionId region) {
  if (line_ == nullptr) return;
  unbacked_.push_back(region.value);
  told_soon();
}

void KeeperClient::told_soon() {
  if (loop_ == nullptr) return tell_forgotten();
  const bool many = std::max(dropped_.size(), unbacked_.size()) >= kForgottenAtOnce;
  if (many && telling_ != Telling::now) {
    telling_ = Telling::now;
    forget_timer_ = {};
    // Behind the answer that may be on its way, and on the account of whoever brought the last: mostly of whoever
    // brings most.
    loop_->post([this, waits = waits_, account = loop_->meter().account()] {
      if (waits->over) return;
      const Meter::Scope scope(loop_->meter(), account);
      tell_forgotten();
    });
  } else if (telling_ == Telling::no) {
    telling_ = Telling::later;
    forget_timer_ = loop_->after(kForgottenWithin, [this] { tell_forgotten(); });
  }
}

void KeeperClient::tell_forgotten() {
  telling_ = Telling::no;
  forget_timer_ = {};
  // Before the keeper has forgotten them: what nobody closes by then is closed by the next broker.
  clone_.close_backings();
  send_unsent();
}

std::vector<RegionId> KeeperClient::unheld(std::size_t most) const {
  return holdings_.unheld(most);
}

Task<bool> KeeperClient::settle(std::chrono::nanoseconds patience) {
  const Time until = now() + patience;
  const std::shared_ptr<Waits> waits = waits_;
  for (;;) {
    if (waits->over) co_return false;
    const Holdings::Count held = holdings_.of_regions();
    tell_forgotten();
    if ((serving_ || held.all == 0) && unsent_.empty() && dropped_.empty() && unbacked_.empty() &&
        held.given == held.all)
      co_return true;
    if (now() >= until) co_return false;
    const bool still = co_await wait(until);
    if (!still) co_return false;
  }
}

void KeeperClient::leave_line() {
  serving_ = false;
  unsent_.clear();
  dropped_.clear();
  unbacked_.clear();
  if (line_ == nullptr) return;
  line_->owner = nullptr;
  // The watch may keep the descriptor for a moment; the keeper must see the end now.
  ::shutdown(line_->socket.get(), SHUT_RDWR);
  if (line_->watch) line_->watch->cancel();
  if (line_->more) line_->more->notify();
  line_.reset();
}

void KeeperClient::watch_line() {
  if (line_ == nullptr) return;
  line_->watch.emplace(*loop_, line_->socket.borrow());
  line_->more.emplace(*loop_);
  spawn(listen(line_));
  spawn(talk(line_));
}

Task<void> KeeperClient::listen(std::shared_ptr<Line> line) {
  for (;;) {
    const bool ready = co_await line->watch->readable();
    if (!ready || line->owner == nullptr) co_return;
    line->owner->hear();
    if (line->owner == nullptr) co_return;
  }
}

Task<void> KeeperClient::talk(std::shared_ptr<Line> line) {
  while (line->owner != nullptr) {
    const Sent sent = line->owner->send_some();
    line->blocked = sent != Sent::all;
    if (sent == Sent::full) {
      const bool ready = co_await line->watch->writable();
      if (!ready) co_return;
    } else if (sent == Sent::failed) {
      co_await line->owner->loop_->sleep(kAfterFailure);
    } else if (sent == Sent::more) {
      co_await line->owner->loop_->yield();
    } else {
      co_await line->more->wait();
    }
  }
}

void KeeperClient::hear() {
  const std::shared_ptr<Line> line = line_;
  // Bounded, so that a burst of releases does not hold the loop: what is left makes the socket readable
  // again.
  for (int i = 0; i < 16 && line->owner != nullptr; ++i) {
    auto received = schema::receive(line->socket.borrow(), wire::kMaxPacket, 2);
    if (!received) return ended("");
    if (const auto* nothing = std::get_if<schema::Wait>(&received.value())) {
      if (*nothing == schema::Wait::closed) ended("");
      return;
    }
    silent_looks_ = 0;
    if (!obey(std::move(std::get<schema::Incoming>(received.value())))) return;
  }
}

bool KeeperClient::obey(schema::Incoming packet) {
  std::span<const std::byte> bytes(packet.bytes);
  const auto head = wire::take<wire::Head>(bytes);
  const auto no_sense = [this] {
    ended(kNoSense);
    return false;
  };
  if (!head) return no_sense();
  switch (head->kind) {
    case Kind::released:
      for (std::uint64_t i = 0; i < head->value; ++i) {
        const auto grant = wire::take<std::uint64_t>(bytes);
        if (!grant) return no_sense();
        if (clone_.released(*grant) && released_) released_(*grant);
      }
      if (told_released_) told_released_();
      // It told of all that there were.
      return head->value >= wire::kEntriesPerPacket;
    case Kind::pong:
      last_pong_ = std::max(last_pong_, head->value);
      tell_waiters();
      return true;
    case Kind::ended:
      // All memory is in the broker's hands: a new keeper is the simplest way to a new connection.
      ended("was ended because its FUSE connection was aborted");
      return false;
    default:
      if (serving_ || !starting_.hear(std::move(packet))) return no_sense();
      if (starting_.complete) replaced();
      return true;
  }
}

void KeeperClient::ping() {
  // One that waits to be sent asks as well as two.
  if (unsent_.empty() || unsent_.back().kind != Kind::ping) unsent_.push_back({Kind::ping});
  unsent_.back().value = ++last_ping_;
  send_unsent();
}

bool KeeperClient::tell(const wire::Head& head) {
  if (line_ == nullptr) return false;
  // One of an earlier version would take it for nonsense; its grants say nothing of publishing at all.
  if (head.kind == Kind::published && !tells_published_) return false;
  // What undoes something must get there in the end; what does something may be refused.
  if (head.kind == Kind::backed) {
    if (!serving_ || !unsent_.empty()) return false;
    const auto sent = schema::send(line_->socket.borrow(), wire::packet(head));
    if (!sent || !sent.value()) return false;
    std::erase(unbacked_, head.region);  // What it was told takes the place of what it was to forget.
    return true;
  }
  unsent_.push_back(head);
  send_unsent();
  return true;
}

bool KeeperClient::give_board(BorrowedFd board) {
  if (line_ == nullptr || !serving_ || !knows_blanks_ || !unsent_.empty()) return false;
  const BorrowedFd fds[] = {board};
  const auto sent = schema::send(line_->socket.borrow(), wire::packet({Kind::labels}), fds);
  return sent && sent.value();
}

void KeeperClient::hold_blank(RegionId region, BorrowedFd memory) {
  holdings_.add_blank(region, memory);
}

std::size_t KeeperClient::room() const {
  return serving_ ? max_held_ - std::min<std::size_t>(max_held_, holdings_.given()) : 0;
}

Task<bool> KeeperClient::wait(Time until) {
  const std::shared_ptr<Waits> waits = waits_;
  if (waits->over || !waits->changed) co_return false;
  const Loop::Timer deadline = loop_->after(until - now(), [waits] { waits->changed->notify(); });
  co_await waits->changed->wait();
  co_return !waits->over;
}

Task<bool> KeeperClient::answers(Time until) {
  const std::shared_ptr<Waits> waits = waits_;
  const std::shared_ptr<Line> line = line_;
  if (line == nullptr) co_return false;
  ping();
  const std::uint64_t asked = last_ping_;
  while (!waits->over && line_ == line && last_pong_ < asked && now() < until) {
    const bool still = co_await wait(until);
    if (!still) co_return false;
  }
  co_return !waits->over && line_ == line && last_pong_ >= asked;
}

void KeeperClient::tell_waiters() {
  if (waits_->changed) waits_->changed->notify();
}

KeeperClient::Sent KeeperClient::send_forgotten() {
  const auto send_of = [this](Kind many, Kind one, std::vector<std::uint64_t>& regions) {
    std::span<const std::uint64_t> left(regions);
    Sent all = Sent::all;
    while (!left.empty() && all == Sent::all) {
      // One of an earlier version is told of each.
      const std::size_t count = forgets_many_ ? std::min(left.size(), wire::kRegionsPerPacket) : 1;
      const auto sent =
          schema::send(line_->socket.borrow(), forgets_many_ ? wire::packet_about(many, left.first(count))
                                                             : wire::packet({one, 0, left.front(), 0}));
      if (!sent || !sent.value()) all = sent ? Sent::full : Sent::failed;
      if (all == Sent::all) left = left.subspan(count);
    }
    const std::size_t told = regions.size() - left.size();
    if (told == 0) return all;
    regions.erase(regions.begin(), regions.begin() + static_cast<std::ptrdiff_t>(told));
    tell_waiters();
    return all;
  };
  const Sent sent = send_of(Kind::drop_many, Kind::drop, dropped_);
  return sent == Sent::all ? send_of(Kind::unbacked_many, Kind::unbacked, unbacked_) : sent;
}

KeeperClient::Sent KeeperClient::send_some() {
  if (line_ == nullptr) return Sent::all;
  if (telling_ == Telling::no) {
    const Sent forgotten = send_forgotten();
    if (forgotten != Sent::all) return forgotten;
  }
  while (!unsent_.empty()) {
    auto sent = schema::send(line_->socket.borrow(), wire::packet(unsent_.front()));
    if (!sent) return Sent::failed;
    if (!sent.value()) return Sent::full;
    unsent_.pop_front();
    tell_waiters();
  }
  if (!serving_) return Sent::all;
  for (int i = 0; i < kBatchesAtOnce; ++i) {
    const std::size_t room = max_held_ - std::min<std::size_t>(max_held_, holdings_.given());
    const Holdings::Batch batch = holdings_.next(std::min(room, holds_many_ ? wire::kFdsPerPacket : 1));
    if (batch.regions.empty()) return Sent::all;
    const wire::Bytes packet = batch.regions.size() == 1
                                   ? wire::packet({Kind::hold, 0, batch.regions.front(), 0})
                                   : wire::packet_about(Kind::hold_many, batch.regions);
    auto sent = schema::send(line_->socket.borrow(), packet, batch.fds);
    if (!sent) return Sent::failed;
    if (!sent.value()) return Sent::full;
    holdings_.sent(batch);
    tell_waiters();
  }
  return Sent::more;
}

void KeeperClient::send_unsent() {
  // Without asking again for each of thousands, which the queue has no room for.
  if (line_ == nullptr || line_->blocked) return;
  if (send_some() == Sent::all || !line_->more) return;
  line_->blocked = true;
  line_->more->notify();
}

}  // namespace mapcap::broker::keeper
