// Keepers that live and die, and what they hold: for tests of who outlives whom.
#pragma once

#include <sys/mman.h>

#include <fstream>

#include "tests/support/stand_in.h"

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

  /// For tests with a short deadline: a busy machine may miss it once.
  static Task<Result<Issued>> issue_patiently(Keeper& keeper, RegionId region, BorrowedFd fd, Access rights) {
    Result<Issued> issued = failure(ErrorCode::unavailable, "");
    for (int attempt = 0; attempt < 50 && !issued; ++attempt) {
      issued = co_await attach_and_issue(keeper, region, fd, rights);
    }
    co_return issued;
  }

  /// With a keeper that is attached, and shut down afterwards.
  void with_keeper(const std::function<Task<void>(Loop&, Keeper&)>& body) {
    drive([&](Loop& loop) -> Task<void> {
      auto keeper = start();
      CO_ASSERT(keeper != nullptr);
      keeper->attach(loop);
      co_await body(loop, *keeper);
      keeper->shut_down();
    });
  }

  static int* map(BorrowedFd fd) {
    void* at = ::mmap(nullptr, kSize.value, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    return at == MAP_FAILED ? nullptr : static_cast<int*>(at);
  }
};

}  // namespace mapcap::test
