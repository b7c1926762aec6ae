#include "broker/regions/custody.h"

#include <fcntl.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

namespace mapcap::broker {

using keeper::HeldMemory;

Custody::Custody(keeper::Keeper& keeper, Worker& worker) : keeper_(keeper), worker_(worker) {}

Task<Result<void>> Custody::hold(RegionId region, BorrowedFd fd) {
  MAPCAP_CO_TRY_VOID(co_await keeper_.hold(region, fd));
  std::optional<std::string> name = store_ != nullptr ? store_->take(region) : std::nullopt;
  if (name) {
    const bool stored = co_await store(std::move(*name), fd);
    if (!stored) (void)store_->drop(region);
  }
  co_return ok();
}

/// On the worker: the service manager's socket may be full, and it waits.
Task<bool> Custody::store(std::string name, BorrowedFd fd) {
  auto send = [message = "FDSTORE=1\nFDNAME=" + name, fd] {
    const int number = fd.get();
    return sd_pid_notify_with_fds(0, 0, message.c_str(), &number, 1) >= 0;
  };
  const bool sent = co_await worker_.run(send);
  co_return sent;
}

void Custody::drop(RegionId region) {
  keeper_.drop(region);
  std::erase_if(guarded_, [&](const auto& waiting) { return waiting.first == region; });
  const std::optional<std::string> name = store_ != nullptr ? store_->drop(region) : std::nullopt;
  if (name) remove(*name);
}

void Custody::remove(std::string name) {
  spawn([](Worker& worker, std::shared_ptr<std::size_t> removing, std::string message) -> Task<void> {
    ++*removing;
    const auto send = [&message] { return sd_notify(0, message.c_str()) >= 0; };
    (void)co_await worker.run(send);
    --*removing;
  }(worker_, removing_, "FDSTOREREMOVE=1\nFDNAME=" + std::move(name)));
}

Task<void> Custody::flushed() {
  // Behind what is under way.
  const auto nothing = [] { return true; };
  while (storing_ || *removing_ > 0) (void)co_await worker_.run(nothing);
}

void Custody::guard(RegionId region, BorrowedFd fd) {
  keeper_.guard(region, fd);
  store_later(region, fd);
}

void Custody::guard_socket(RegionId number, BorrowedFd socket) {
  keeper_.guard_socket(number, socket);
  if (store_ != nullptr) store_->note_socket(number);
  store_later(number, socket);
}

void Custody::store_later(RegionId region, BorrowedFd fd) {
  if (store_ == nullptr || store_->has(region)) return;
  guarded_.emplace_back(region, fd);
  if (storing_) return;
  storing_ = true;
  spawn(store_guarded());
}

Task<void> Custody::store_guarded() {
  while (!guarded_.empty()) {
    const RegionId region = guarded_.front().first;
    // Of its own: the region may be revoked and its descriptor closed meanwhile.
    const Fd memory(::fcntl(guarded_.front().second.get(), F_DUPFD_CLOEXEC, 3));
    guarded_.pop_front();
    std::optional<std::string> name = memory.valid() ? store_->take(region) : std::nullopt;
    if (!name) continue;
    const std::string stored = *name;
    (void)co_await store(std::move(*name), memory.borrow());
    // Dropped meanwhile: its removal may have come before it was stored.
    if (!store_->has(region)) remove(stored);
  }
  storing_ = false;
}

std::vector<HeldMemory> take_stored(FdStore& store) {
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  std::vector<HeldMemory> stored;
  for (int i = 0; i < count; ++i) {
    Fd fd(SD_LISTEN_FDS_START + i);
    ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
    if (const std::optional<RegionId> region = FdStore::region_of(names[i])) {
      store.found(*region, names[i]);
      stored.push_back({*region, std::move(fd)});
    }
    std::free(names[i]);
  }
  std::free(names);
  return stored;
}

}  // namespace mapcap::broker
