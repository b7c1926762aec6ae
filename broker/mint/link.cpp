#include "broker/mint/link.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>
#include <variant>

#include "base/await_readable.h"
#include "schema/channel.h"

namespace mapcap::broker::mint {

using wire::Kind;
using wire::Request;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds kForHeir{5000};
constexpr std::chrono::milliseconds kFarewell{1000};
constexpr std::chrono::milliseconds kDying{50};
/// A mint's children end a moment after it; until then they are looked for.
constexpr std::chrono::milliseconds kBetweenLooks{100};
/// Nobody asks twice because of one mint; three that end under one question are no accident.
constexpr int kAttempts = 3;

Fd copy_of(const Fd& fd) {
  return fd.valid() ? Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)) : Fd();
}

Failure gone() {
  return failure(ErrorCode::unavailable, "the mint, which has the machine's power, has ended; ask again");
}

/// One question and its answer. The answer is absent when the other side has ended: then nobody did what was asked, or
/// nobody can say any more.
enum class Fate : std::uint8_t { answered, ended, silent };
Fate converse(BorrowedFd socket, const Request& request, std::span<const BorrowedFd> fds,
              std::chrono::milliseconds patience, Result<Link::Heard>& heard) {
  const auto sent = schema::send(socket, wire::bytes_of(request), fds);
  if (!sent) {
    heard = sent.error();
    return Fate::ended;
  }
  if (!await_readable(socket, Clock::now() + patience)) return Fate::silent;
  auto received = schema::receive(socket, sizeof(wire::Answer), wire::kMostDescriptors);
  if (!received) {
    heard = received.error();
    return Fate::answered;
  }
  if (std::holds_alternative<schema::Wait>(received.value())) return Fate::ended;
  auto& packet = std::get<schema::Incoming>(received.value());
  Result<wire::Answer> answer = wire::decode_answer(packet.bytes, packet.fds.size());
  if (answer) {
    heard = Link::Heard{answer.value(), std::move(packet.fds)};
  } else {
    heard = answer.error();
  }
  return Fate::answered;
}

}  // namespace

Result<std::unique_ptr<Link>> Link::start(const Places& places) {
  std::unique_ptr<Link> link(new Link());
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) return io_error("PR_SET_CHILD_SUBREAPER", errno);
  MAPCAP_TRY(auto ends, schema::socket_pair());
  Fd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!self.valid()) return io_error("pidfd_open of this process", errno);
  const pid_t pid = ::fork();
  if (pid == 0) run_mint(std::move(ends.second), std::move(self), places, Origin::broker);
  if (pid < 0) return io_error("fork of the mint", errno);
  ends.second.reset();
  link->mint_ = {std::move(ends.first), Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))), pid};
  link->wake_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!link->mint_.end.valid() || !link->wake_.valid()) return io_error("pidfd_open or eventfd", errno);
  std::lock_guard lock(link->mutex_);
  link->ask_for_heir();
  if (!link->heir_.control.valid()) return failure(ErrorCode::unavailable, "the mint does not start");
  return link;
}

Link::~Link() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  if (watcher_.joinable()) {
    [[maybe_unused]] const auto woken = ::eventfd_write(wake_.get(), 1);
    watcher_.join();
  }
  idle_.clear();
  for (Process* process : {&heir_, &mint_}) {
    process->control.reset();
    if (!process->end.valid()) continue;
    if (!await_readable(process->end.borrow(), Clock::now() + kFarewell)) ::kill(process->pid, SIGKILL);
    ended_.push_back(process->pid);
    ::waitpid(process->pid, nullptr, 0);
  }
  reap();
}

void Link::watch(std::function<void()> replaced, std::function<void()> lost) {
  {
    std::lock_guard lock(mutex_);
    replaced_ = std::move(replaced);
    lost_ = std::move(lost);
  }
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  watcher_ = std::thread([this] { look(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

/// The watcher's life.
void Link::look() {
  for (;;) {
    Fd mint_end;
    Fd heir_end;
    std::uint64_t generation = 0;
    bool again = false;
    {
      std::lock_guard lock(mutex_);
      if (over_ || told_lost_) return;
      generation = generation_;
      reap();
      if (!heir_.end.valid()) ask_for_heir();
      again = !ended_.empty() || !heir_.end.valid();
      // Copies: whoever asks may put a mint away meanwhile.
      mint_end = copy_of(mint_.end);
      heir_end = copy_of(heir_.end);
    }
    pollfd watched[] = {{wake_.get(), POLLIN, 0}, {mint_end.get(), POLLIN, 0}, {heir_end.get(), POLLIN, 0}};
    ::poll(watched, 3, again ? static_cast<int>(kBetweenLooks.count()) : -1);
    if (watched[1].revents != 0) {
      replace(generation);
    } else if (watched[2].revents != 0) {
      std::lock_guard lock(mutex_);
      if (!over_ && generation == generation_) put_away(std::exchange(heir_, {}));
    }
    if (watched[0].revents != 0) {
      eventfd_t told = 0;
      ::eventfd_read(wake_.get(), &told);
    }
  }
}

Result<Link::Heard> Link::ask(Kind kind, std::uint64_t number, const std::string& text,
                              std::span<const BorrowedFd> fds, std::chrono::milliseconds patience,
                              std::uint64_t second) {
  Request request;
  request.kind = kind;
  request.number = number;
  request.second = second;
  if (!wire::put_text(request.text, text))
    return failure(ErrorCode::invalid, "a name that the mint is to know is too long, or has a zero byte");
  return ask(request, fds, patience);
}

Result<Link::Heard> Link::ask(Request request, std::span<const BorrowedFd> fds,
                              std::chrono::milliseconds patience) {
  request.descriptors = static_cast<std::uint16_t>(fds.size());
  const Pace pace = patience > kAtOnce ? Pace::in_time : Pace::at_once;
  for (int failed = 0; failed < kAttempts;) {
    Result<Lane> lane = take_lane(pace);
    if (!lane) return lane.error();
    Result<Heard> heard = gone();
    const std::uint64_t generation = lane.value().generation;
    const Fate fate = converse(lane.value().socket.borrow(), request, fds, patience, heard);
    if (fate == Fate::answered) {
      // The child that starts a keeper ends with that.
      if (request.kind != Kind::start_keeper) give_back(std::move(lane.value()));
      return heard;
    }
    // A child's silence is its own.
    if (fate == Fate::silent && pace == Pace::in_time)
      return failure(ErrorCode::timed_out, "the mint did not answer in time");
    // Lanes end with their mint, or with the child that answered there, and those that were idle say so only now.
    if (fate == Fate::silent || has_ended(generation)) replace(generation);
    if (!lane.value().used && is_current(generation)) ++failed;
  }
  return gone();
}

bool Link::is_current(std::uint64_t generation) const {
  std::lock_guard lock(mutex_);
  return generation == generation_;
}

bool Link::has_ended(std::uint64_t generation) const {
  Fd end;
  {
    std::lock_guard lock(mutex_);
    if (generation != generation_) return true;
    end = copy_of(mint_.end);
  }
  // What is killed closes its sockets a moment before it counts as ended.
  return !end.valid() || await_readable(end.borrow(), Clock::now() + kDying);
}

Result<Link::Lane> Link::take_lane(Pace pace) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::uint64_t generation = 0;
    {
      std::lock_guard lock(mutex_);
      if (!mint_.control.valid()) return gone();
      const auto idle =
          std::find_if(idle_.begin(), idle_.end(), [&](const Lane& one) { return one.pace == pace; });
      if (idle != idle_.end()) {
        Lane lane = std::move(*idle);
        idle_.erase(idle);
        return lane;
      }
      MAPCAP_TRY(auto ends, schema::socket_pair());
      Request request;
      request.descriptors = 1;
      const BorrowedFd given = ends.second.borrow();
      const auto sent = schema::send(mint_.control.borrow(), wire::bytes_of(request), std::span(&given, 1));
      generation = generation_;
      if (sent && sent.value()) return Lane{std::move(ends.first), generation_, pace, false};
    }
    replace(generation);
  }
  return gone();
}

void Link::give_back(Lane lane) {
  std::lock_guard lock(mutex_);
  lane.used = true;
  if (lane.generation == generation_) idle_.push_back(std::move(lane));
}

void Link::replace(std::uint64_t generation) {
  std::function<void()> tell;
  {
    std::lock_guard lock(mutex_);
    if (over_ || generation != generation_ || told_lost_) return;
    ++generation_;
    idle_.clear();
    put_away(std::exchange(mint_, std::exchange(heir_, {})));
    if (mint_.control.valid()) ask_for_heir();
    // An heir that does not fork its own is gone too.
    if (!heir_.control.valid()) {
      pollfd alive{mint_.end.get(), POLLIN, 0};
      if (!mint_.end.valid() || ::poll(&alive, 1, 0) != 0) {
        told_lost_ = true;
        put_away(std::exchange(mint_, {}));
        tell = lost_;
      }
    }
    if (!told_lost_) tell = replaced_;
    [[maybe_unused]] const auto woken = ::eventfd_write(wake_.get(), 1);
  }
  if (tell) tell();
}

void Link::ask_for_heir() {
  Request request;
  request.kind = Kind::heir;
  Result<Heard> heard = gone();
  if (converse(mint_.control.borrow(), request, {}, kForHeir, heard) != Fate::answered || !heard) return;
  if (heard.value().fds.size() != 2) return;
  heir_.control = std::move(heard.value().fds[0]);
  heir_.end = std::move(heard.value().fds[1]);
  heir_.pid = static_cast<pid_t>(heard.value().answer.numbers[0]);
}

/// With mutex_ held.
void Link::put_away(Process process) {
  if (!process.end.valid()) return;
  // What has only lost its mind holds power; by its pidfd, since its number may be another's by now.
  ::syscall(SYS_pidfd_send_signal, process.end.get(), SIGKILL, nullptr, 0);
  ended_.push_back(process.pid);
}

/// With mutex_ held. Each mint leads a process group of its own, in which its children are; orphans among them came to this
/// process. Keepers, which mints fork too, have left it.
void Link::reap() {
  std::erase_if(ended_, [](pid_t group) {
    pid_t taken = 0;
    do {
      taken = ::waitpid(-group, nullptr, WNOHANG);
    } while (taken > 0);
    return taken < 0;  // ECHILD: there is nobody, nor will there be.
  });
}

pid_t Link::pid() const {
  std::lock_guard lock(mutex_);
  return mint_.pid;
}

pid_t Link::heir_pid() const {
  std::lock_guard lock(mutex_);
  return heir_.pid;
}

}  // namespace mapcap::broker::mint
