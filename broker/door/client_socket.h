// A client's connection, and the one way in which it ends.
//
// From Linux 6.16 on the kernel refuses descriptors that are sent to the broker (SO_PASSRIGHTS, set on the
// listener before it listens, inherited by every connection): a connection's queue holds bytes alone, and
// reading and closing it take no time. Before, anything may be in the queue. There the broker looks at a
// packet before it takes it, leaves one with descriptors where it is and ends the connection; and no
// connection is closed by the broker: the examiner does that (foreign/examiner_process.h).
#pragma once

#include <cstddef>
#include <utility>
#include <variant>

#include "base/result.h"
#include "broker/foreign/file_examiner.h"
#include "mapcap/fd.h"
#include "schema/channel.h"

namespace mapcap::broker {

/// Tells the kernel to refuse whatever descriptors are sent to `socket` and to those that it accepts. False
/// where the kernel does not know how.
bool refuse_descriptors(BorrowedFd socket);

/// Move-only; owns the connection. Loop only.
class ClientSocket {
 public:
  /// `undertaker`: who closes it, and for whom; null where the kernel refuses descriptors.
  ClientSocket(Fd socket, FileExaminer* undertaker, Meter::Account account)
      : socket_(std::move(socket)), undertaker_(undertaker), account_(account) {}
  ClientSocket(ClientSocket&&) noexcept = default;
  ClientSocket& operator=(ClientSocket&&) = delete;
  ~ClientSocket() {
    if (socket_.valid() && undertaker_ != nullptr) undertaker_->bury(std::move(socket_), account_);
  }

  [[nodiscard]] BorrowedFd borrow() const { return socket_.borrow(); }

  /// One packet, without blocking. Errors: as schema::receive, and `malformed` for a packet with a
  /// descriptor, which stays where it is.
  [[nodiscard]] Result<std::variant<schema::Incoming, schema::Wait>> receive(std::size_t max_bytes) const;

 private:
  Fd socket_;
  FileExaminer* undertaker_;
  Meter::Account account_;
};

}  // namespace mapcap::broker
