#include "broker/lent_uids.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

namespace mapcap::broker {

Result<AccountChanges> AccountChanges::watch(const std::string& directory) {
  AccountChanges changes;
  changes.inotify_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!changes.inotify_.valid()) return io_error("inotify_init1", errno);
  MAPCAP_TRY_VOID(changes.add(directory));
  for (const char* name : {"subuid", "passwd", "group"}) {
    changes.names_.insert(name);
    std::error_code fault;
    const std::filesystem::path real = std::filesystem::canonical(directory + "/" + name, fault);
    if (fault || real.parent_path() == directory) continue;
    changes.names_.insert(real.filename());
    MAPCAP_TRY_VOID(changes.add(real.parent_path()));
  }
  return changes;
}

/// The directory, not the file: whoever writes these files makes another and renames it.
Result<void> AccountChanges::add(const std::string& directory) {
  constexpr std::uint32_t kChanges = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
  if (::inotify_add_watch(inotify_.get(), directory.c_str(), kChanges) < 0)
    return io_error("watching " + directory, errno);
  return ok();
}

bool AccountChanges::take() const {
  bool ours = false;
  alignas(inotify_event) std::array<char, 4096> room{};
  for (;;) {
    const ssize_t got = ::read(inotify_.get(), room.data(), room.size());
    if (got <= 0) return ours;
    for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
      // SAFETY: the kernel writes whole events, each padded so that the next is aligned.
      const auto* event = reinterpret_cast<const inotify_event*>(room.data() + at);
      const std::string_view name = event->len > 0 ? std::string_view(event->name) : std::string_view();
      if ((event->mask & IN_Q_OVERFLOW) != 0 || names_.contains(name)) ours = true;
      at += sizeof *event + event->len;
    }
  }
}

LentUids::LentUids(Parts parts, AccountChanges changes)
    : parts_(std::move(parts)), changes_(std::move(changes)), watch_(parts_.loop, changes_.fd()) {}

Task<void> LentUids::run() {
  for (;;) {
    const bool ready = co_await watch_.readable();
    if (!ready) co_return;
    if (!changes_.take()) continue;
    co_await parts_.loop.sleep(kSettled);
    (void)changes_.take();
    const policy::Subordinates now = co_await parts_.accounts.run(parts_.read);
    parts_.take(now);
  }
}

}  // namespace mapcap::broker
