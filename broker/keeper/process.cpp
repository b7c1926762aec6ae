#include "broker/keeper/process.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/keeper/fuse/server.h"
#include "broker/keeper/issuing_page.h"
#include "broker/keeper/setup.h"
#include "broker/keeper/wire.h"

namespace mapcap::broker::keeper {
namespace {

using wire::Kind;

/// Requests between two looks at the broker's socket: its end clears the issuing page.
constexpr std::size_t kBatch = 32;
constexpr std::uint32_t kAbilities = wire::kHoldsMany | wire::kTellsPublished | wire::kKnowsBlanks |
                                     wire::kKnowsReadyOpens | wire::kOpensByName | wire::kForgetsMany;
/// More than any socket's queue has room for.
constexpr std::size_t kEverything = 100'000;

struct Memory {
  Fd fd;
  std::int32_t backing_id = 0;
};

struct Outgoing {
  wire::Bytes bytes;
  std::vector<BorrowedFd> fds;  ///< Of what outlives the link: the page, the root, held memory.
};

class KeeperProcess {
 public:
  KeeperProcess(KeeperStart start, IssuingPage page, std::uint64_t max_descriptors)
      : device_(std::move(start.device)),
        root_(std::move(start.root)),
        listener_(std::move(start.listener)),
        page_(std::move(page)),
        fuse_(device_.borrow(), page_, std::move(start.accounts)),
        idle_(start.idle),
        first_grant_(start.first_grant),
        max_held_(max_descriptors > 64 ? max_descriptors - 64 : 0) {
    begin_link(std::move(start.broker));
    adopted_by(nullptr, 0);
  }

  void run() {
    while (!done_) {
      wait();
      // The broker's socket first: when it ended, the issuing page must be clear before the next open is
      // answered.
      if (broker_speaks_) hear_broker(kBatch);
      serve_fuse();
      if (broker_.valid()) flush();
      if (somebody_connects_) accept_brokers();
      end_when_idle();
    }
  }

 private:
  void wait() {
    std::array<pollfd, 3> watched = {{{device_.get(), POLLIN, 0},
                                      {listener_.get(), POLLIN, 0},
                                      {broker_.get(), POLLIN, 0}}};  // poll ignores negative numbers.
    if (!outgoing_.empty() || !released_.empty()) watched[2].events |= POLLOUT;
    std::optional<FuseServer::Time> due = fuse_.next_due();
    if (idle_ && idle_since_ && (!due || *idle_since_ + *idle_ < *due)) due = *idle_since_ + *idle_;
    timespec timeout{};
    if (due) {
      const FuseServer::Time left = std::max(*due - FuseServer::now(), FuseServer::Time::zero());
      timeout.tv_sec = left.count() / 1'000'000'000;
      timeout.tv_nsec = left.count() % 1'000'000'000;
    }
    const int ready = ::ppoll(watched.data(), watched.size(), due ? &timeout : nullptr, nullptr);
    somebody_connects_ = ready > 0 && watched[1].revents != 0;
    broker_speaks_ = ready > 0 && (watched[2].revents & ~POLLOUT) != 0;
  }

  void serve_fuse() {
    if (!device_.valid()) return;
    const FuseServer::Time now = FuseServer::now();
    fuse_.answer_held(now);
    if (fuse_.serve(kBatch, now) == FuseServer::Served::ended) {
      // Aborted from outside. Grants keep mapping; memory is still held until a broker takes it over.
      device_.reset();
      queue(wire::packet({Kind::ended}));
    }
    for (const auto& [region, backing_id] : fuse_.take_opened()) {
      last_backing_ = backing_id;
      memory_[region.value].backing_id = backing_id;
    }
    const std::vector<confine::GrantId> forgotten = fuse_.take_released();
    // Without a broker nobody needs to know: the next one is told which grants live.
    if (broker_.valid()) released_.insert(released_.end(), forgotten.begin(), forgotten.end());
  }

  // ---- the broker's link

  void begin_link(Fd link) {
    broker_ = std::move(link);
    idle_since_.reset();
    adopted_ = false;
  }

  void end_link() {
    page_.clear();
    // Nobody's memory: it has no size yet, and whoever could give it one is gone.
    fuse_.take_labels();
    fuse_.visit_blanks([this](RegionId region) { forget_memory(region.value, &Memory::fd); });
    fuse_.end_labels();
    broker_.reset();
    outgoing_.clear();
    released_.clear();
  }

  void accept_brokers() {
    for (;;) {
      Fd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!peer.valid()) return;
      const std::optional<ucred> who = credentials(peer.borrow());
      if (!who || who->uid != own_uid_) continue;
      // The last words of a broker that died may still be in the queue, and its end behind them.
      hear_broker(kEverything);
      if (broker_.valid()) {
        // A stopped broker that still has its socket counts: two brokers on one region table must never be.
        const std::optional<ucred> first = credentials(broker_.borrow());
        const auto pid = static_cast<std::uint64_t>(first ? first->pid : 0);
        [[maybe_unused]] const auto told = schema::send(peer.borrow(), wire::packet({Kind::busy, 0, 0, pid}));
        continue;
      }
      begin_link(std::move(peer));
    }
  }

  static std::optional<ucred> credentials(BorrowedFd socket) {
    ucred who{};
    socklen_t size = sizeof who;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return std::nullopt;
    return who;
  }

  void hear_broker(std::size_t most) {
    for (std::size_t i = 0; i < most && broker_.valid() && !done_; ++i) {
      auto received = schema::receive(broker_.borrow(), wire::kMaxPacketToKeeper, wire::kFdsPerPacket);
      if (!received) return end_link();
      if (const auto* nothing = std::get_if<schema::Wait>(&received.value())) {
        if (*nothing == schema::Wait::closed) end_link();
        return;
      }
      auto& packet = std::get<schema::Incoming>(received.value());
      std::span<const std::byte> bytes(packet.bytes);
      const auto head = wire::take<wire::Head>(bytes);
      // A broker that says what it should not is not served any further; it starts a keeper of its own.
      if (!head) return end_link();
      if (adopted_ && head->kind == Kind::hold_many) {
        if (!hold_many(*head, bytes, std::move(packet.fds))) return end_link();
        continue;
      }
      if (adopted_ && (head->kind == Kind::drop_many || head->kind == Kind::unbacked_many)) {
        if (!forget_many(*head, bytes)) return end_link();
        continue;
      }
      Fd fd = packet.fds.empty() ? Fd() : std::move(packet.fds.front());
      if (!obey(*head, std::move(fd))) return end_link();
    }
  }

  bool hold_many(const wire::Head& head, std::span<const std::byte> regions, std::vector<Fd> fds) {
    if (head.value != fds.size()) return false;
    for (Fd& fd : fds) {
      const auto region = wire::take<std::uint64_t>(regions);
      if (!region) return false;
      memory_[*region].fd = std::move(fd);
    }
    return regions.empty();
  }

  bool forget_many(const wire::Head& head, std::span<const std::byte> regions) {
    const Kind of_each = head.kind == Kind::drop_many ? Kind::drop : Kind::unbacked;
    for (std::uint64_t i = 0; i < head.value; ++i) {
      const auto region = wire::take<std::uint64_t>(regions);
      if (!region) return false;
      obey({of_each, 0, *region, 0}, Fd());
    }
    return regions.empty();
  }

  bool obey(const wire::Head& head, Fd fd) {
    if (!adopted_) {
      if (head.kind != Kind::adopt || head.value != wire::kVersion) return false;
      adopted_by(fd.valid() ? &fd : nullptr, head.abilities);
      return true;
    }
    switch (head.kind) {
      case Kind::hold:
        memory_[head.region].fd = std::move(fd);
        return true;
      case Kind::drop:
        fuse_.no_blank(RegionId{head.region});
        forget_memory(head.region, &Memory::fd);
        return true;
      case Kind::backed:
        last_backing_ = static_cast<std::int32_t>(head.value);
        memory_[head.region].backing_id = last_backing_;
        return true;
      case Kind::unbacked:
        fuse_.no_blank(RegionId{head.region});
        forget_memory(head.region, &Memory::backing_id);
        return true;
      case Kind::published:
        fuse_.published(RegionId{head.region}, static_cast<std::int64_t>(head.value));
        return true;
      case Kind::labels: {
        auto board = LabelBoard::map(std::move(fd));
        if (!board) return false;
        board.value().let_go_of_fd();
        fuse_.use_labels(std::move(board.value()));
        return true;
      }
      case Kind::named:
        fuse_.take_labels();
        return true;
      case Kind::root:
        if (device_.valid()) root_ = std::move(fd);
        return true;
      case Kind::ping:
        queue(wire::packet({Kind::pong, 0, 0, head.value}));
        return true;
      case Kind::end:
        done_ = true;
        return true;
      default:
        return false;
    }
  }

  template <typename Part>
  void forget_memory(std::uint64_t region, Part Memory::*part) {
    const auto found = memory_.find(region);
    if (found == memory_.end()) return;
    found->second.*part = Part{};
    if (!found->second.fd.valid() && found->second.backing_id == 0) memory_.erase(found);
  }

  /// Tells a new broker everything that outlived the last one.
  void adopted_by(const Fd* fresh_device, std::uint32_t abilities) {
    adopted_ = true;
    if (fresh_device != nullptr && device_.valid()) {
      auto from = static_cast<std::uint32_t>(device_.get());
      // SAFETY: the ioctl reads one u32, the number of an open /dev/fuse. When it fails the broker's own
      // descriptor is of no use, which it finds out at the first backing.
      ::ioctl(fresh_device->get(), fuse::kClone, &from);
    }
    wire::Bytes welcome = wire::packet({Kind::welcome, kAbilities, wire::kVersion, 0});
    wire::append(welcome, wire::Welcome{std::max(fuse_.last_grant() + 1, first_grant_), max_held_,
                                        last_backing_, device_.valid() ? 1U : 0U});
    std::vector<BorrowedFd> fds = {page_.fd()};
    if (root_.valid()) fds.push_back(root_.borrow());
    queue(std::move(welcome), std::move(fds));
    list_memory();
    list_grants();
    if ((abilities & wire::kTakesNames) != 0) list_names();
    queue(wire::packet({Kind::listed}));
  }

  void list_memory() {
    for (auto next = memory_.cbegin(); next != memory_.cend();) {
      wire::Bytes entries;
      std::vector<BorrowedFd> fds;
      std::uint64_t count = 0;
      for (; next != memory_.cend() && count < wire::kFdsPerPacket; ++next, ++count) {
        const bool has_fd = next->second.fd.valid();
        wire::append(entries, wire::MemoryEntry{next->first, next->second.backing_id, has_fd ? 1U : 0U});
        if (has_fd) fds.push_back(next->second.fd.borrow());
      }
      wire::Bytes bytes = wire::packet({Kind::memory, 0, 0, count});
      bytes.insert(bytes.end(), entries.begin(), entries.end());
      queue(std::move(bytes), std::move(fds));
    }
  }

  void list_grants() {
    for (auto next = fuse_.nodes().cbegin(); next != fuse_.nodes().cend();) {
      wire::Bytes entries;
      std::uint64_t count = 0;
      for (; next != fuse_.nodes().cend() && count < wire::kEntriesPerPacket; ++next) {
        if (next->second.place) continue;  // Nobody had it but a broker that is gone: the kernel forgets it.
        ++count;
        wire::append(entries, wire::GrantEntry{next->first, next->second.region.value,
                                               next->second.holder.uid, next->second.holder.gid,
                                               static_cast<std::uint32_t>(next->second.rights)});
      }
      wire::Bytes bytes = wire::packet({Kind::grants, 0, 0, count});
      bytes.insert(bytes.end(), entries.begin(), entries.end());
      queue(std::move(bytes));
    }
  }

  /// The broker takes them away: the kernel may hold for it what only an answer from here sets free.
  void list_names() {
    if (!device_.valid()) return;
    wire::Bytes names;
    std::uint64_t count = 0;
    const auto send_some = [&] {
      wire::Bytes bytes = wire::packet({Kind::names, 0, 0, std::exchange(count, 0)});
      bytes.insert(bytes.end(), names.begin(), names.end());
      queue(std::move(bytes));
      names.clear();
    };
    for (const std::string& name : fuse_.names_left()) {
      for (const char c : name) names.push_back(static_cast<std::byte>(c));
      names.push_back(std::byte{0});
      if (++count == wire::kNamesPerPacket) send_some();
    }
    if (count > 0) send_some();
  }

  void queue(wire::Bytes bytes, std::vector<BorrowedFd> fds = {}) {
    if (broker_.valid()) outgoing_.push_back({std::move(bytes), std::move(fds)});
  }

  void flush() {
    for (;;) {
      if (outgoing_.empty() && !released_.empty()) queue(next_released());
      if (outgoing_.empty()) return;
      auto sent = schema::send(broker_.borrow(), outgoing_.front().bytes, outgoing_.front().fds);
      if (!sent) {
        // It died. What it said before, memory to be held above all, is still in the queue.
        hear_broker(kEverything);
        return end_link();
      }
      if (!sent.value()) return;  // The broker's queue is full: poll says when it is not.
      outgoing_.pop_front();
    }
  }

  wire::Bytes next_released() {
    const std::size_t count = std::min(released_.size(), wire::kEntriesPerPacket);
    wire::Bytes bytes = wire::packet({Kind::released, 0, 0, count});
    for (std::size_t i = 0; i < count; ++i) wire::append(bytes, released_[released_.size() - 1 - i]);
    released_.resize(released_.size() - count);
    return bytes;
  }

  void end_when_idle() {
    if (!idle_) {
      done_ = done_ || !broker_.valid();
      return;
    }
    const auto holds = [this] {
      return std::any_of(memory_.begin(), memory_.end(),
                         [](const auto& entry) { return entry.second.fd.valid(); });
    };
    if (broker_.valid() || !fuse_.nodes().empty() || holds()) {
      idle_since_.reset();
    } else if (!idle_since_) {
      idle_since_ = FuseServer::now();
    } else if (FuseServer::now() - *idle_since_ >= *idle_) {
      done_ = true;
    }
  }

  Fd device_;
  Fd root_;
  Fd listener_;
  Fd broker_;
  IssuingPage page_;
  FuseServer fuse_;
  std::map<std::uint64_t, Memory> memory_;
  std::deque<Outgoing> outgoing_;
  std::vector<confine::GrantId> released_;
  std::optional<FuseServer::Time> idle_since_;
  const std::optional<FuseServer::Time> idle_;
  confine::GrantId first_grant_ = 0;
  std::uint64_t max_held_ = 0;
  std::int32_t last_backing_ = 0;
  const uid_t own_uid_ = ::geteuid();  ///< Asked before the sandbox forbids it.
  bool broker_speaks_ = false;
  bool somebody_connects_ = false;
  bool adopted_ = false;
  bool done_ = false;
};

/// Everything that is done before the sandbox closes. Exit codes tell the parent's log where it failed.
Result<void> prepare_and_run(KeeperStart start) {
  std::vector<BorrowedFd> keep = {start.page.borrow(), start.listener.borrow(), start.broker.borrow()};
  if (start.device.valid()) keep.push_back(start.device.borrow());
  if (start.root.valid()) keep.push_back(start.root.borrow());
  MAPCAP_TRY(const std::uint64_t descriptors, become_keeper(keep));
  if (::listen(start.listener.get(), 8) != 0) return io_error("listen", errno);
  MAPCAP_TRY(IssuingPage page, IssuingPage::map(std::move(start.page)));
  KeeperProcess keeper(std::move(start), std::move(page), descriptors);
  MAPCAP_TRY_VOID(sandbox_keeper());
  keeper.run();
  return ok();
}

}  // namespace

void run_keeper(KeeperStart start) {
  const auto ended = prepare_and_run(std::move(start));
  ::_exit(ended ? 0 : 3);
}

}  // namespace mapcap::broker::keeper
