// One keeper takes over from another, under a broker that starts.
//
// A keeper whose FUSE connection is gone still holds memory. The next one listens under another name until it
// has everything; then the two names are exchanged, in one step, and whoever has the spare name is ended. So
// at every moment the keeper that the next start would find has all of the memory.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>

#include "base/fd_path.h"
#include "broker/keeper/forge.h"
#include "broker/keeper/start.h"
#include "broker/keeper/wire.h"

namespace mapcap::broker::keeper {

using Clock = std::chrono::steady_clock;

namespace {

/// Linux 3.15; a filesystem without it has a moment at which neither is found under the name that counts,
/// which is worse than what a takeover mends.
Result<void> exchange_names(BorrowedFd directory) {
  if (::renameat2(directory.get(), kSpareName, directory.get(), kSocketName, RENAME_EXCHANGE) == 0)
    return ok();
  return io_error("exchanging " + std::string(kSpareName) + " and " + kSocketName, errno);
}

Result<void> give(const KeeperHandle& keeper, const std::vector<HeldMemory>& memory,
                  Clock::time_point until) {
  for (std::size_t first = 0; first < memory.size(); first += wire::kFdsPerPacket) {
    std::vector<std::uint64_t> regions;
    std::vector<BorrowedFd> fds;
    for (std::size_t i = first; i < std::min(first + wire::kFdsPerPacket, memory.size()); ++i) {
      regions.push_back(memory[i].region.value);
      fds.push_back(memory[i].fd.borrow());
    }
    MAPCAP_TRY_VOID(
        send_now(keeper.socket.borrow(), wire::packet_about(wire::Kind::hold_many, regions), fds, until));
  }
  return ok();
}

}  // namespace

Result<void> send_now(BorrowedFd socket, std::span<const std::byte> bytes, std::span<const BorrowedFd> fds,
                      Clock::time_point until) {
  for (;;) {
    MAPCAP_TRY(const bool sent, schema::send(socket, bytes, fds));
    if (sent) return ok();
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    if (left.count() <= 0)
      return failure(ErrorCode::timed_out, "the keeper does not take what it is to hold");
    pollfd watched{socket.get(), POLLOUT, 0};
    ::poll(&watched, 1, static_cast<int>(left.count()));
  }
}

Result<std::pair<KeeperHandle, Inventory>> take_over(BorrowedFd directory, const KeeperHandle& old,
                                                     const std::vector<HeldMemory>& memory,
                                                     std::chrono::seconds request_timeout,
                                                     const KeeperOptions& options) {
  MAPCAP_TRY(KeeperHandle next, options.forge->start_keeper(directory, {request_timeout, options.idle,
                                                                        options.accounts, kSpareName}));
  const auto give_up = [&](const Failure& why) {
    signal_keeper(next.process.borrow(), SIGKILL);
    pollfd gone{next.process.get(), POLLIN, 0};
    ::poll(&gone, 1, 1000);
    reap_keeper(next.process.borrow());
    ::unlinkat(directory.get(), kSpareName, 0);
    return why;
  };
  if (!next.clone_unavailable.empty())
    return give_up(failure(ErrorCode::unsupported, next.clone_unavailable));
  Result<Inventory> inventory = receive_inventory(next, options);
  if (!inventory) return give_up(inventory.error());
  if (Result<void> given = give(next, memory, Clock::now() + options.kill_after); !given)
    return give_up(given.error());
  if (Result<void> exchanged = exchange_names(directory); !exchanged) return give_up(exchanged.error());
  signal_keeper(old.process.borrow(), SIGKILL);
  ::unlinkat(directory.get(), kSpareName, 0);
  return std::pair(std::move(next), std::move(inventory.value()));
}

void end_spare_keeper(BorrowedFd directory) {
  const std::string path = fd_path(directory, kSpareName);
  auto connected = schema::connect_to(path);
  if (connected) {
    ucred who{};
    socklen_t size = sizeof who;
    const bool known = ::getsockopt(connected.value().get(), SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
                       who.uid == ::geteuid();
    if (known) {
      const auto process = open_pidfd(connected.value().borrow(), who.pid);
      if (process) signal_keeper(process.value().borrow(), SIGKILL);
    }
  }
  ::unlinkat(directory.get(), kSpareName, 0);
}

}  // namespace mapcap::broker::keeper
