#include "broker/mint/mint.h"

#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "broker/keeper/setup.h"
#include "broker/mint/services.h"
#include "broker/mint/wire.h"
#include "broker/sandbox/sandbox.h"
#include "policy/accounts.h"
#include "schema/channel.h"

namespace mapcap::broker::mint {
namespace {

using wire::Answer;
using wire::Kind;
using wire::Request;

/// The broker has not so many threads; more are a broker that is somebody else's.
constexpr std::size_t kMostLanes = 64;
constexpr std::size_t kMostChildren = 16;

/// A lane's other end waits for the one answer: there is room for it.
void say(BorrowedFd lane, Answer answer, std::span<const Fd> fds = {}) {
  std::vector<BorrowedFd> borrowed;
  for (const Fd& fd : fds) borrowed.push_back(fd.borrow());
  answer.descriptors = static_cast<std::uint16_t>(borrowed.size());
  [[maybe_unused]] const auto sent = schema::send(lane, wire::bytes_of(answer), borrowed);
}

void answer_to(BorrowedFd lane, Result<Given> given) {
  if (!given) return say(lane, wire::refusal(given.error()));
  say(lane, given.value().answer, given.value().fds);
}

/// A file descriptor of the child that ends with it. SAFETY of the raw calls here: no libc wrapper in glibc 2.35.
Fd open_pidfd(pid_t pid) {
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

/// A child's whole life: answers what it was forked for, and what comes on that lane afterwards.
[[noreturn]] void work(BorrowedFd lane, Request request, std::vector<Fd> fds, const Places& places) {
  for (;;) {
    answer_to(lane, mint::serve(request, fds, places));
    fds.clear();
    // A keeper whose parent this stayed would be nobody's whom the broker could ask how it ended.
    if (request.kind == Kind::start_keeper) ::_exit(0);
    pollfd next{lane.get(), POLLIN, 0};
    while (::poll(&next, 1, -1) < 0 && errno == EINTR) {
    }
    auto received = schema::receive(lane, sizeof(Request), wire::kMostDescriptors);
    if (!received || std::holds_alternative<schema::Wait>(received.value())) ::_exit(0);
    auto& packet = std::get<schema::Incoming>(received.value());
    const Result<Request> decoded = wire::decode_request(packet.bytes, packet.fds.size());
    if (!decoded) ::_exit(0);
    request = decoded.value();
    fds = std::move(packet.fds);
  }
}

class Mint {
 public:
  Mint(Fd control, Fd broker, Places places)
      : control_(std::move(control)), broker_(std::move(broker)), places_(std::move(places)) {
    places_.broker = broker_.borrow();
  }

  /// Until the broker's end of `control` is closed, or it breaks the protocol there.
  void serve() {
    for (;;) {
      std::vector<pollfd> watched = watch();
      if (::poll(watched.data(), watched.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return;
      }
      std::vector<Lane*> over;
      for (std::size_t i = 0; i < lanes_.size(); ++i) {
        Lane& lane = *lanes_[i];
        if (watched[1 + i].revents == 0) continue;
        // Of a lane that a child has, only its end is watched for.
        if (lane.child || !hear(lane)) over.push_back(&lane);
      }
      for (const auto& lane : lanes_) {
        // Its child has ended, or whoever asked has gone, and what hangs need not be waited for.
        if (lane->child && ::waitpid(lane->child->pid, nullptr, WNOHANG) != 0) {
          lane->child.reset();
          over.push_back(lane.get());
        }
      }
      for (Lane* lane : over) put_away(*lane);
      std::erase_if(lanes_, [](const std::unique_ptr<Lane>& lane) { return !lane->socket.valid(); });
      std::erase_if(orphans_,
                    [](const Child& orphan) { return ::waitpid(orphan.pid, nullptr, WNOHANG) != 0; });
      if (watched[0].revents != 0 && !hear_control()) return;
    }
  }

 private:
  struct Child {
    pid_t pid = 0;
    Fd end;  ///< Its pidfd.
  };
  struct Lane {
    Fd socket;
    std::optional<Child> child;  ///< What answers there from now on.
  };

  [[nodiscard]] std::vector<pollfd> watch() const {
    std::vector<pollfd> watched{{control_.get(), POLLIN, 0}};
    for (const auto& lane : lanes_)
      watched.push_back({lane->socket.get(), static_cast<short>(lane->child ? 0 : POLLIN), 0});
    for (const auto& lane : lanes_) {
      if (lane->child) watched.push_back({lane->child->end.get(), POLLIN, 0});
    }
    for (const Child& orphan : orphans_) watched.push_back({orphan.end.get(), POLLIN, 0});
    return watched;
  }

  bool hear_control() {
    auto received = schema::receive(control_.borrow(), sizeof(Request), 1);
    if (!received) return false;
    if (const auto* nothing = std::get_if<schema::Wait>(&received.value()))
      return *nothing == schema::Wait::would_block;
    auto& packet = std::get<schema::Incoming>(received.value());
    const Result<Request> request = wire::decode_request(packet.bytes, packet.fds.size());
    if (!request) return false;
    if (request.value().kind == Kind::heir) {
      answer_to(control_.borrow(), make_heir());
      return true;
    }
    if (request.value().kind != Kind::lane) return false;
    if (lanes_.size() == kMostLanes || !is_socket(packet.fds[0].borrow())) return true;  // It is closed.
    lanes_.push_back(std::make_unique<Lane>(Lane{std::move(packet.fds[0]), std::nullopt}));
    return true;
  }

  static bool is_socket(BorrowedFd fd) {
    int type = 0;
    socklen_t size = sizeof type;
    return ::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
  }

  /// False when the lane is over.
  bool hear(Lane& lane) {
    auto received = schema::receive(lane.socket.borrow(), sizeof(Request), wire::kMostDescriptors);
    if (!received) return false;
    if (const auto* nothing = std::get_if<schema::Wait>(&received.value()))
      return *nothing == schema::Wait::would_block;
    auto& packet = std::get<schema::Incoming>(received.value());
    const Result<Request> request = wire::decode_request(packet.bytes, packet.fds.size());
    if (!request) return false;
    if (takes_its_time(request.value().kind)) return hand_over(lane, request.value(), std::move(packet.fds));
    answer_to(lane.socket.borrow(), mint::serve(request.value(), packet.fds, places_));
    return true;
  }

  bool hand_over(Lane& lane, const Request& request, std::vector<Fd> fds) {
    const auto busy = static_cast<std::size_t>(
        std::count_if(lanes_.begin(), lanes_.end(), [](const auto& one) { return one->child.has_value(); }));
    if (busy + orphans_.size() >= kMostChildren) {
      say(lane.socket.borrow(),
          wire::refusal(failure(ErrorCode::unavailable, "the mint has too much to do; ask again")));
      return true;
    }
    const pid_t pid = ::fork();
    if (pid == 0) {
      // With its mint's end nobody is left who would be asked for another, or would end what hangs.
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != own_pid_) ::_exit(1);
      control_.reset();
      for (const auto& other : lanes_) {
        if (other.get() != &lane) other->socket.reset();
      }
      work(lane.socket.borrow(), request, std::move(fds), places_);
    }
    if (pid < 0) {
      say(lane.socket.borrow(), wire::refusal(io_error("fork within the mint", errno)));
      return true;
    }
    lane.child = Child{pid, open_pidfd(pid)};
    return true;
  }

  void put_away(Lane& lane) {
    lane.socket.reset();
    if (!lane.child) return;
    ::kill(lane.child->pid, SIGKILL);
    orphans_.push_back(std::move(*lane.child));
    lane.child.reset();
  }

  Result<Given> make_heir() {
    MAPCAP_TRY(auto ends, schema::socket_pair());
    const pid_t pid = ::fork();
    if (pid == 0) run_mint(std::move(ends.second), std::move(broker_), places_, Origin::mint);
    if (pid < 0) return io_error("fork of the next mint", errno);
    Given given;
    given.answer.numbers[0] = static_cast<std::uint64_t>(pid);
    Fd process = open_pidfd(pid);
    if (!process.valid()) return io_error("pidfd_open of the next mint", errno);
    orphans_.push_back({pid, open_pidfd(pid)});
    given.fds.push_back(std::move(ends.first));
    given.fds.push_back(std::move(process));
    return given;
  }

  const pid_t own_pid_ = ::getpid();
  Fd control_;
  Fd broker_;
  Places places_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<Child> orphans_;  ///< The heir, and what nobody waits for.
};

}  // namespace

void run_mint(Fd control, Fd broker, Places places, Origin origin) {
  const BorrowedFd kept[] = {control.borrow(), broker.borrow()};
  ::prctl(PR_SET_NAME, "mapcapd-mint", 0, 0, 0);
  bool ready = keeper::leave_broker(kept).has_value();
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGPIPE}) std::signal(number, SIG_IGN);
  std::signal(SIGCHLD, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  if (origin == Origin::broker) {
    ready = ready && sandbox::drop_privileges(sandbox::EndsHolders::no).has_value() &&
            sandbox::filter_system_calls(sandbox::Role::mint).has_value();
    // The C library loads what it looks names up with: once, and not in each child.
    if (ready) (void)policy::find_account(0U);
    if (ready) (void)policy::find_group(0U);
  }
  if (ready) Mint(std::move(control), std::move(broker), std::move(places)).serve();
  ::_exit(ready ? 0 : 3);
}

}  // namespace mapcap::broker::mint
