#include "broker/keeper/start.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "base/await_readable.h"
#include "base/fd_path.h"
#include "broker/keeper/fuse/mount.h"
#include "broker/keeper/process.h"
#include "broker/keeper/wire.h"

namespace mapcap::broker::keeper {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kDeathPatienceMs = 1000;
constexpr std::chrono::milliseconds kBetweenTries{20};
constexpr int kPeerPidfd = 77;                           // SO_PEERPIDFD, Linux 6.5.
constexpr idtype_t kByPidfd = static_cast<idtype_t>(3);  // P_PIDFD, Linux 5.4.

/// Through the descriptor, so that a state directory's path may be longer than a socket's.
std::string socket_path(BorrowedFd directory, const char* name) {
  return fd_path(directory, name);
}

Result<Fd> bind_socket(BorrowedFd directory, const char* name) {
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return io_error("socket", errno);
  // Before bind, which makes the name with this mode: there is no moment at which others could connect.
  if (::fchmod(socket.get(), 0600) != 0) return io_error("fchmod of the keeper's socket", errno);
  ::unlinkat(directory.get(), name, 0);
  const std::string path = socket_path(directory, name);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  // SAFETY: sockaddr_un is what AF_UNIX expects behind a sockaddr pointer.
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return io_error("bind of " + std::string(name) + " in the state directory", errno);
  }
  return socket;
}

/// Grants of different keepers must not share ids: the high 16 bits are the keeper's own.
confine::GrantId first_grant() {
  std::uint16_t generation = 0;
  while (generation == 0) {
    MAPCAP_INVARIANT(::getrandom(&generation, sizeof generation, 0) == sizeof generation, "getrandom failed");
    generation &= 0x7fffU;  // Inode numbers stay positive.
  }
  return (confine::GrantId{generation} << 48U) | 2U;  // 1 is FUSE's root.
}

bool is_fuse_device(BorrowedFd fd) {
  struct stat status {};
  constexpr unsigned kMisc = 10;  // Documentation/admin-guide/devices.txt: 10, 229.
  constexpr unsigned kFuse = 229;
  return fd.valid() && ::fstat(fd.get(), &status) == 0 && S_ISCHR(status.st_mode) &&
         status.st_rdev == makedev(kMisc, kFuse);
}

template <typename Entry, typename Each>
bool for_each_entry(std::span<const std::byte> bytes, std::uint64_t count, Each each) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto entry = wire::take<Entry>(bytes);
    if (!entry || !each(*entry)) return false;
  }
  return bytes.empty();
}

Failure malformed() {
  return failure(ErrorCode::malformed, "the keeper's inventory makes no sense");
}

}  // namespace

Result<Fd> open_pidfd(BorrowedFd socket, pid_t pid) {
  int peer = -1;
  socklen_t size = sizeof peer;
  if (socket.valid() && ::getsockopt(socket.get(), SOL_SOCKET, kPeerPidfd, &peer, &size) == 0) {
    return Fd(peer);
  }
  // SAFETY: no libc wrapper in glibc 2.35; takes a pid and flags, returns a descriptor (CLOEXEC).
  Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return io_error("pidfd_open of the keeper", errno);
  return process;
}

Result<Fd> open_state_directory(const std::string& path) {
  Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return io_error("state directory " + path, errno);
  return directory;
}

Result<KeeperHandle> fork_keeper(BorrowedFd directory, std::chrono::seconds request_timeout,
                                 std::optional<std::chrono::seconds> idle, policy::Subordinates accounts,
                                 const char* socket_name) {
  KeeperHandle keeper;
  Fd served;  // The keeper's own clone: the broker must not keep it, or a dead keeper's requests would hang.
  Fd mount;
  if (auto mounted = mount_fuse(request_timeout)) {
    keeper.clone.device = std::move(mounted.value().device);
    mount = std::move(mounted.value().mount);
    MAPCAP_TRY(served, clone_device(keeper.clone.device.borrow()));
  } else {
    keeper.clone_unavailable = mounted.error().sentence;
  }
  MAPCAP_TRY(IssuingPage page, IssuingPage::create());
  MAPCAP_TRY(Fd listener, bind_socket(directory, socket_name));
  MAPCAP_TRY(auto link, schema::socket_pair());
  const confine::GrantId first = first_grant();

  // The child must not run the broker's handlers, which write to pipes that it still shares.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) {
    // This stack is never returned to: ownership passes by number.
    run_keeper(KeeperStart{std::move(served), std::move(mount), Fd(page.fd().get()), std::move(listener),
                           std::move(link.second), first, std::move(accounts), idle});
  }
  const int failed = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return io_error("fork of the keeper", failed);
  keeper.pid = pid;
  keeper.socket = std::move(link.first);
  auto process = open_pidfd({}, pid);
  if (!process) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return process.error();
  }
  keeper.process = std::move(process.value());
  if (keeper.clone.device.valid()) {
    keeper.clone.path = std::make_shared<IssuePath>(std::move(mount), std::move(page));
    keeper.clone.next_grant = first;
  }
  return keeper;
}

Result<void> Inventory::hear(schema::Incoming packet) {
  std::span<const std::byte> bytes(packet.bytes);
  const auto head = wire::take<wire::Head>(bytes);
  if (!head) return malformed();
  switch (head->kind) {
    case wire::Kind::busy:
      return failure(ErrorCode::busy, "the keeper of this state directory serves another mapcapd (pid " +
                                          std::to_string(head->value) + "); stop that one first");
    case wire::Kind::welcome: {
      if (head->region != wire::kVersion) {
        return failure(
            ErrorCode::unsupported,
            "a keeper of another version of mapcapd holds this state directory's regions; start that "
            "version, or kill the keeper (which loses its volatile regions)");
      }
      const auto welcome = wire::take<wire::Welcome>(bytes);
      if (!welcome || packet.fds.empty()) return malformed();
      max_held = welcome->max_held;
      holds_many = (head->abilities & wire::kHoldsMany) != 0;
      tells_published = (head->abilities & wire::kTellsPublished) != 0;
      knows_blanks = (head->abilities & wire::kKnowsBlanks) != 0;
      knows_ready_opens = (head->abilities & wire::kKnowsReadyOpens) != 0;
      opens_by_name = (head->abilities & wire::kOpensByName) != 0;
      forgets_many = (head->abilities & wire::kForgetsMany) != 0;
      last_backing = welcome->last_backing;
      next_grant = welcome->next_grant;
      page = std::move(packet.fds[0]);
      if (packet.fds.size() > 1) root = std::move(packet.fds[1]);
      fuse_alive = welcome->fuse_alive != 0 && root.valid();
      return ok();
    }
    case wire::Kind::memory: {
      std::size_t next_fd = 0;
      const bool whole = for_each_entry<wire::MemoryEntry>(bytes, head->value, [&](const auto& entry) {
        if (entry.backing_id != 0) backings.emplace_back(RegionId{entry.region}, entry.backing_id);
        if (entry.has_fd == 0) return true;
        if (next_fd == packet.fds.size()) return false;
        memory.push_back({RegionId{entry.region}, std::move(packet.fds[next_fd++])});
        return true;
      });
      return whole ? Result<void>(ok()) : Result<void>(malformed());
    }
    case wire::Kind::grants: {
      const bool whole = for_each_entry<wire::GrantEntry>(bytes, head->value, [&](const auto& entry) {
        if (entry.rights > 1) return false;
        grants.push_back({entry.grant,
                          RegionId{entry.region},
                          static_cast<Access>(entry.rights),
                          {entry.holder_uid, entry.holder_gid}});
        return true;
      });
      return whole ? Result<void>(ok()) : Result<void>(malformed());
    }
    case wire::Kind::names: {
      std::string name;
      for (const std::byte one : bytes) {
        if (one != std::byte{0}) {
          name.push_back(static_cast<char>(one));
        } else {
          names.push_back(std::exchange(name, {}));
        }
      }
      return ok();
    }
    case wire::Kind::listed:
      complete = true;
      return ok();
    case wire::Kind::ended:
      fuse_alive = false;
      return ok();
    default:
      return malformed();
  }
}

Result<Inventory> receive_inventory(const KeeperHandle& keeper, const KeeperOptions& options) {
  Inventory inventory;
  const Clock::time_point until = Clock::now() + options.kill_after;
  const Clock::time_point waking = Clock::now() + options.wake_after;
  bool woken = false;
  int ends = 0;
  while (!inventory.complete) {
    if (!await_readable(keeper.socket.borrow(), woken ? until : waking)) {
      if (woken) return failure(ErrorCode::timed_out, "the keeper does not answer");
      // Perhaps somebody stopped it: it holds memory that would be lost with it.
      signal_keeper(keeper.process.borrow(), SIGCONT);
      woken = true;
      continue;
    }
    MAPCAP_TRY(auto received, schema::receive(keeper.socket.borrow(), wire::kMaxPacket, wire::kFdsPerPacket));
    if (const auto* nothing = std::get_if<schema::Wait>(&received)) {
      if (*nothing == schema::Wait::would_block) continue;
      // A keeper that is busy says so and closes without reading what we sent, which the kernel reports
      // first, as a reset: its last word is still in the queue.
      if (++ends < 2) continue;
      return failure(ErrorCode::unavailable,
                     "the keeper ended the connection before it had told what it holds");
    }
    MAPCAP_TRY_VOID(inventory.hear(std::move(std::get<schema::Incoming>(received))));
  }
  return inventory;
}

namespace {

using Survivor = std::optional<std::pair<KeeperHandle, Inventory>>;

Result<Survivor> try_to_adopt(BorrowedFd directory, const KeeperOptions& options) {
  Survivor none;
  auto connected = schema::connect_to(socket_path(directory, kSocketName));
  if (!connected) {
    if (connected.error().code == ErrorCode::unavailable) return none;
    return connected.error();
  }
  KeeperHandle keeper;
  keeper.socket = std::move(connected.value());
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(keeper.socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) {
    return io_error("SO_PEERCRED of the keeper", errno);
  }
  if (who.uid != ::geteuid()) {
    return failure(ErrorCode::denied, "keeper.sock in the state directory belongs to a process of uid " +
                                          std::to_string(who.uid) + "; remove it");
  }
  keeper.pid = who.pid;
  auto process = open_pidfd(keeper.socket.borrow(), who.pid);
  if (!process) return none;  // It ended just now.
  keeper.process = std::move(process.value());

  // A descriptor that is opened here and connected there: the keeper itself may open nothing.
  keeper.clone.device = Fd(::open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!is_fuse_device(keeper.clone.device.borrow())) {
    keeper.clone.device.reset();
    keeper.clone_unavailable = "/dev/fuse is not there, or cannot be opened any more";
  }
  std::vector<BorrowedFd> fds;
  if (keeper.clone.device.valid()) fds.push_back(keeper.clone.device.borrow());
  // When this fails the keeper has closed the connection: what it said before tells why.
  [[maybe_unused]] const auto sent = schema::send(
      keeper.socket.borrow(), wire::packet({wire::Kind::adopt, wire::kTakesNames, 0, wire::kVersion}), fds);
  auto inventory = receive_inventory(keeper, options);
  if (!inventory) {
    const ErrorCode why = inventory.error().code;
    if (why == ErrorCode::busy || why == ErrorCode::unsupported) return inventory.error();
    // Only silence is a reason to kill it, since its memory dies with it.
    if (why == ErrorCode::timed_out) signal_keeper(keeper.process.borrow(), SIGKILL);
    pollfd gone{keeper.process.get(), POLLIN, 0};
    if (::poll(&gone, 1, kDeathPatienceMs) == 1) return none;
    return failure(
        ErrorCode::unsupported,
        "the keeper of this state directory (pid " + std::to_string(keeper.pid) +
            ") refuses this mapcapd, probably as one of another version; start that version, or kill "
            "the keeper, which loses its volatile regions");
  }
  if (inventory.value().fuse_alive && keeper.clone.device.valid()) {
    MAPCAP_TRY(IssuingPage page, IssuingPage::map(std::move(inventory.value().page)));
    keeper.clone.path = std::make_shared<IssuePath>(std::move(inventory.value().root), std::move(page));
    keeper.clone.next_grant = inventory.value().next_grant;
  } else {
    if (keeper.clone_unavailable.empty())
      keeper.clone_unavailable = "the keeper of the broker before serves no FUSE filesystem (any more)";
    keeper.clone.device.reset();
  }
  return Survivor(std::pair(std::move(keeper), std::move(inventory.value())));
}

}  // namespace

Result<Survivor> adopt_keeper(BorrowedFd directory, const KeeperOptions& options) {
  const Clock::time_point until = Clock::now() + std::chrono::milliseconds(kDeathPatienceMs);
  for (;;) {
    Result<Survivor> adopted = try_to_adopt(directory, options);
    // A broker that was killed in a request to the keeper lives, and has its socket, until it is answered.
    const bool again = !adopted && adopted.error().code == ErrorCode::busy && Clock::now() < until;
    if (!again) return adopted;
    std::this_thread::sleep_for(kBetweenTries);
  }
}

void unlink_socket(BorrowedFd directory) {
  ::unlinkat(directory.get(), kSocketName, 0);
}

void signal_keeper(BorrowedFd process, int number) {
  // SAFETY: no libc wrapper in glibc 2.35; a pidfd cannot hit a process that took the number over.
  ::syscall(SYS_pidfd_send_signal, process.get(), number, nullptr, 0);
}

std::optional<std::string> reap_keeper(BorrowedFd process) {
  siginfo_t information{};
  if (::waitid(kByPidfd, static_cast<id_t>(process.get()), &information, WEXITED | WNOHANG) != 0) {
    return "ended, how is not known";  // ECHILD: an adopted keeper is nobody's child, or was taken already.
  }
  if (information.si_pid == 0) return std::nullopt;
  const std::string number = std::to_string(information.si_status);
  if (information.si_code == CLD_EXITED) return "ended with exit code " + number;
  const char* name = ::sigabbrev_np(information.si_status);
  return "was ended by signal " + number + (name != nullptr ? " (SIG" + std::string(name) + ")" : "");
}

}  // namespace mapcap::broker::keeper
