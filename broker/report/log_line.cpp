#include "broker/report/log_line.h"

#include <poll.h>
#include <unistd.h>

namespace mapcap::broker {

bool write_to_log(const std::string& bytes) {
  pollfd room{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&room, 1, 0) != 1 || (room.revents & POLLOUT) == 0) return false;
  return ::write(STDERR_FILENO, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
}

}  // namespace mapcap::broker
