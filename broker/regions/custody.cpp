#include "broker/regions/custody.h"

#include <fcntl.h>
#include <systemd/sd-daemon.h>

#include <charconv>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

namespace mapcap::broker {

using keeper::HeldMemory;

namespace {

constexpr std::string_view kPrefix = "mapcap-";

std::string stored_name(RegionId region) {
  return std::string(kPrefix) + std::to_string(region.value);
}

bool parse_stored_name(std::string_view name, RegionId& region) {
  if (!name.starts_with(kPrefix)) return false;
  name.remove_prefix(kPrefix.size());
  const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), region.value);
  return failed == std::errc{} && end == name.data() + name.size() && region.value != 0;
}

}  // namespace

Custody::Custody(keeper::Keeper& keeper, Worker& worker)
    : keeper_(keeper),
      worker_(worker),
      // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it.
      has_store_(std::getenv("NOTIFY_SOCKET") != nullptr) {}

Task<Result<void>> Custody::hold(RegionId region, BorrowedFd fd) {
  MAPCAP_CO_TRY_VOID(co_await keeper_.hold(region, fd));
  if (has_store_) {
    // On the worker: the service manager's socket may be full, and it waits.
    (void)co_await worker_.run([region, fd] {
      const std::string message = "FDSTORE=1\nFDNAME=" + stored_name(region);
      const int number = fd.get();
      return sd_pid_notify_with_fds(0, 0, message.c_str(), &number, 1);
    });
  }
  co_return ok();
}

void Custody::drop(RegionId region) {
  keeper_.drop(region);
  if (!has_store_) return;
  worker_.submit([region] {
    const std::string message = "FDSTOREREMOVE=1\nFDNAME=" + stored_name(region);
    sd_notify(0, message.c_str());
  });
}

std::vector<HeldMemory> Custody::take_stored() {
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  std::vector<HeldMemory> stored;
  for (int i = 0; i < count; ++i) {
    Fd fd(SD_LISTEN_FDS_START + i);
    ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
    RegionId region;
    if (parse_stored_name(names[i], region)) stored.push_back({region, std::move(fd)});
    std::free(names[i]);
  }
  std::free(names);
  return stored;
}

}  // namespace mapcap::broker
