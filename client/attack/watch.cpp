// Watching: being told when others touch the object.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <unistd.h>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

// Marks by the path of the fd: the empty path with a dirfd would mean the directory.
Attempt fanotify_by(const Context& c, unsigned init_flags, std::uint64_t mask) {
  const int group = fanotify_init(init_flags | FAN_CLOEXEC, O_RDONLY);
  if (group < 0) return answered(group);
  return answered(fanotify_mark(group, FAN_MARK_ADD, mask, AT_FDCWD, fd_path(c.fd).c_str()));
}

void add_notification(Family& family) {
  for (const std::uint32_t mask : {std::uint32_t{IN_ALL_EVENTS}, std::uint32_t{IN_ACCESS | IN_OPEN}}) {
    family.refused(
        mask == IN_ALL_EVENTS ? "inotify, all events" : "inotify, reads and opens", [mask](const Context& c) {
          return answered(inotify_add_watch(inotify_init1(IN_CLOEXEC), fd_path(c.fd).c_str(), mask));
        });
  }
  family.refused("fanotify FAN_REPORT_FID", [](const Context& c) {
    return fanotify_by(c, FAN_CLASS_NOTIF | FAN_REPORT_FID, FAN_MODIFY | FAN_OPEN);
  });
  family.refused("fanotify with fds",
                 [](const Context& c) { return fanotify_by(c, FAN_CLASS_NOTIF, FAN_MODIFY); });
  family.refused("fanotify permission events",
                 [](const Context& c) { return fanotify_by(c, FAN_CLASS_CONTENT, FAN_OPEN_PERM); });
  family.refused("fanotify by the fd itself", [](const Context& c) {
    const int group = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_CLOEXEC, O_RDONLY);
    if (group < 0) return answered(group);
    return answered(fanotify_mark(group, FAN_MARK_ADD, FAN_MODIFY, c.fd, nullptr));
  });
}

// A file is always ready, or cannot be waited for; both are fine.
void add_readiness(Family& family) {
  family.harmless("poll", [](const Context& c) {
    pollfd waiting{c.fd, POLLIN | POLLOUT, 0};
    return answered(poll(&waiting, 1, 100));
  });
  family.harmless("select", [](const Context& c) {
    if (c.fd >= FD_SETSIZE) return refused(EINVAL);
    fd_set waiting;
    FD_ZERO(&waiting);
    FD_SET(c.fd, &waiting);
    timeval patience{0, 100000};
    return answered(select(c.fd + 1, &waiting, nullptr, nullptr, &patience));
  });
  family.harmless("epoll_ctl EPOLL_CTL_ADD", [](const Context& c) {
    epoll_event event{};
    event.events = EPOLLIN;
    return answered(epoll_ctl(epoll_create1(EPOLL_CLOEXEC), EPOLL_CTL_ADD, c.fd, &event));
  });
}

}  // namespace

void add_watch(std::vector<Operation>& all) {
  Family family(all, "watch");
  add_notification(family);
  add_readiness(family);

  Family as_root(all, "watch as namespace root", Where::own_namespace);
  add_notification(as_root);
}

}  // namespace mapcap::attack
