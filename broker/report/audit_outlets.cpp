#include "broker/report/audit_outlets.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "broker/report/audit_text.h"
#include "broker/report/log_line.h"

namespace mapcap::broker {

namespace {

std::string log_line(const AuditRecord& record) {
  return ("mapcapd: audit " + as_logfmt(record)).substr(0, kLongestLogLine - 1) + "\n";
}

/// systemd.exec(5): "DEVICE:INODE" of the stream, which may have been redirected since.
bool stderr_is_the_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");  // NOLINT(concurrency-mt-unsafe): nobody sets it.
  struct stat status {};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &status) != 0) return false;
  return stream == std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
}

}  // namespace

bool LogAuditOutlet::put(const AuditRecord& record) {
  return write_to_log(log_line(record));
}

JournalAuditOutlet::JournalAuditOutlet(std::string socket) : path_(std::move(socket)) {
  (void)connect();
}

bool JournalAuditOutlet::connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // SAFETY: sockaddr_un is what the kernel reads behind this sockaddr pointer.
  return ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

bool JournalAuditOutlet::put(const AuditRecord& record) {
  const std::string fields = as_journal_fields(record);
  for (int round = 0; round < 2; ++round) {
    const ssize_t sent = ::send(socket_.get(), fields.data(), fields.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return true;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) return false;
    if (errno == EMSGSIZE) return write_to_log(log_line(record));
    if (!connect()) return false;  // The journal was started again behind another socket, or is about to be.
  }
  return false;
}

std::unique_ptr<AuditOutlet> make_audit_outlet() {
  if (stderr_is_the_journal()) return std::make_unique<JournalAuditOutlet>();
  return std::make_unique<LogAuditOutlet>();
}

}  // namespace mapcap::broker
