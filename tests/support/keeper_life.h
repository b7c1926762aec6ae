// Keepers that live and die, and what they hold: for tests of who outlives whom.
#pragma once

#include <sys/mman.h>

#include <fstream>

#include "tests/support/stand_in.h"
#include "tests/support/virtual_time.h"

namespace mapcap::test {

constexpr ByteCount kSize{8192};

class KeeperLife : public KeeperTest {
 protected:
  static std::string status_of(pid_t pid, const std::string& key) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(key + ":")) return line.substr(line.find_first_not_of(" \t", key.size() + 1));
    }
    return "";
  }

  /// 'D', 'S', 'Z', ...; 0 when there is no such process.
  static char state_of(pid_t pid) {
    const std::string state = status_of(pid, "State");
    return state.empty() ? '\0' : state.front();
  }
  static bool gone(pid_t pid) { return state_of(pid) == '\0' || state_of(pid) == 'Z'; }

  static Task<Result<Issued>> attach_and_issue(Keeper& keeper, RegionId region, BorrowedFd fd,
                                               Access rights) {
    const auto attached = keeper.clone().attach(region, fd, kSize);
    if (!attached) co_return attached.error();
    co_return co_await keeper.clone().issue(region, label(kSize, rights));
  }

  /// With a keeper that is attached, and shut down afterwards.
  void with_keeper(broker::TimeSource& time, const std::function<Task<void>(Loop&, Keeper&)>& body) {
    drive(time, [&](Loop& loop) -> Task<void> {
      auto keeper = start();
      CO_ASSERT(keeper != nullptr);
      keeper->attach(loop);
      co_await body(loop, *keeper);
      keeper->shut_down();
    });
  }
  void with_keeper(const std::function<Task<void>(Loop&, Keeper&)>& body) {
    broker::BootTime time;
    with_keeper(time, body);
  }

  /// The descriptors of a keeper that holds nothing: /dev/null three times, the listener, the broker, and with clones the
  /// FUSE device, the root and the page. One more comes with the labels, for the moment in which they are mapped.
  static Task<std::size_t> own_descriptors(Loop& loop, const Keeper& keeper) {
    const std::size_t own = keeper.clone_unavailable().empty() ? 8 : 5;
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper.pid()) == own; }))
        << descriptors_of(keeper.pid());
    co_return own;
  }

  /// On the loop: so much of its time passes, and what is due by then is done.
  static Task<void> pass(Loop& loop, VirtualTime& time, std::chrono::nanoseconds span) {
    time.pass(span);
    while (time.rings()) co_await loop.yield();
    co_await loop.yield();
  }

  static int* map(BorrowedFd fd) {
    void* at = ::mmap(nullptr, kSize.value, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    return at == MAP_FAILED ? nullptr : static_cast<int*>(at);
  }
};

}  // namespace mapcap::test
