// A process that stands in for a broker: it has a keeper, hands the test grants, and can be killed at any
// moment.
#pragma once

#include <poll.h>
#include <sys/wait.h>

#include <cstring>
#include <optional>
#include <vector>

#include "schema/channel.h"
#include "tests/support/keeper_harness.h"

namespace mapcap::test {

class StandIn {
 public:
  struct Told {
    std::uint64_t region = 0;
    GrantId grant = 0;
    pid_t keeper = 0;
    bool adopted = false;
    std::uint32_t held = 0;  ///< Regions that it found in an adopted keeper.
  };
  struct Given {
    Told told;
    Fd fd;
  };

  /// Forks it. It carves `regions` regions numbered from `first_region`, hands one rw grant of each to the
  /// test, and then issues and drops grants as fast as it can.
  StandIn(const KeeperOptions& options, std::uint64_t first_region, std::uint64_t regions) {
    auto pair = schema::socket_pair();
    EXPECT_TRUE(pair);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // Must not outlive a test that fails.
      const Fd end = std::move(pair.value().second);
      pair.value().first.reset();
      serve(options, end.borrow(), first_region, regions);
      ::_exit(1);
    }
    socket_ = std::move(pair.value().first);
  }
  ~StandIn() { kill(); }
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }

  /// Nothing when it sends none.
  std::optional<Given> next() {
    pollfd ready{socket_.get(), POLLIN, 0};
    if (::poll(&ready, 1, kPatienceMs) != 1) return std::nullopt;
    auto received = schema::receive(socket_.borrow(), sizeof(Told), 1);
    if (!received || !std::holds_alternative<schema::Incoming>(received.value())) return std::nullopt;
    auto& packet = std::get<schema::Incoming>(received.value());
    Given given;
    if (packet.bytes.size() != sizeof given.told || packet.fds.size() != 1) return std::nullopt;
    std::memcpy(&given.told, packet.bytes.data(), sizeof given.told);
    given.fd = std::move(packet.fds.front());
    return given;
  }

  /// kill -9, without waiting: while its keeper is stopped it may not end.
  void begin_to_kill() const {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
  }

  /// kill -9; false when it does not end.
  bool kill() {
    if (pid_ <= 0) return true;
    begin_to_kill();
    if (!comes_true([this] { return ::waitpid(pid_, nullptr, WNOHANG) == pid_; })) return false;
    pid_ = 0;
    return true;
  }

 private:
  static void serve(const KeeperOptions& options, BorrowedFd socket, std::uint64_t first_region,
                    std::uint64_t regions) {
    broker::BootTime time;
    Loop loop(time);
    auto keeper = Keeper::adopt_or_start(options);
    if (!keeper) {
      std::fprintf(stderr, "stand-in: %s\n", keeper.error().sentence.c_str());
      ::_exit(2);
    }
    keeper.value()->attach(loop);
    broker::spawn(work(loop, *keeper.value(), socket, first_region, regions));
    loop.run();
  }

  static Task<void> work(Loop& loop, Keeper& keeper, BorrowedFd socket, std::uint64_t first_region,
                         std::uint64_t regions) {
    constexpr ByteCount size{8192};
    const auto held = keeper.take_held();
    std::vector<Fd> memory;
    keeper.on_replaced([&] {
      for (std::size_t i = 0; i < memory.size(); ++i) {
        (void)keeper.clone().attach(RegionId{first_region + i}, memory[i].borrow(), size);
      }
    });
    for (std::uint64_t i = 0; i < regions; ++i) {
      memory.emplace_back(::memfd_create("stand-in", MFD_CLOEXEC));
      if (::ftruncate(memory.back().get(), size.value) != 0) ::_exit(3);
      auto taken = co_await keeper.hold(RegionId{first_region + i}, memory.back().borrow());
      if (!taken) continue;
      Label what{"stand-in", size, Access::read_write, "wb", "wb", "none", "clone", {65534, 65533}};
      auto issued =
          co_await keeper.clone().issue(RegionId{first_region + i}, std::move(what), memory.back().borrow());
      if (!issued) continue;
      const Told told{first_region + i, issued.value().grant, keeper.pid(), keeper.adopted(),
                      static_cast<std::uint32_t>(held.size())};
      const std::span<const Told> one(&told, 1);
      const BorrowedFd fds[] = {issued.value().fd.borrow()};
      (void)schema::send(socket, std::as_bytes(one), fds);
    }
    for (;;) {
      for (std::uint64_t i = 0; i < regions; ++i) {
        Label what{"busy",  size,          i % 2 == 0 ? Access::read_write : Access::read_only,
                   "wb",    "wb",          "none",
                   "clone", {65534, 65533}};
        (void)co_await keeper.clone().issue(RegionId{first_region + i}, std::move(what));
      }
      co_await loop.sleep(std::chrono::microseconds(200));
    }
  }

  pid_t pid_ = 0;
  Fd socket_;
};

}  // namespace mapcap::test
