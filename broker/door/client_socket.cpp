#include "broker/door/client_socket.h"

#include <sys/socket.h>

#include "base/newer_linux.h"

namespace mapcap::broker {

using schema::Incoming;
using schema::Wait;

bool refuse_descriptors(BorrowedFd socket) {
  const int pass = 0;
  return ::setsockopt(socket.get(), SOL_SOCKET, SO_PASSRIGHTS, &pass, sizeof pass) == 0;
}

Result<std::variant<Incoming, Wait>> ClientSocket::receive(std::size_t max_bytes) const {
  if (undertaker_ != nullptr) {
    MAPCAP_TRY(auto seen, schema::peek(borrow(), max_bytes));
    const auto* packet = std::get_if<Incoming>(&seen);
    if (packet == nullptr) return seen;
    if (packet->dropped_fds) {
      return failure(ErrorCode::malformed,
                     "a descriptor rides on a packet, where none may; a file that is to be cloned is "
                     "sent to a port of its own: update libmapcap");
    }
  }
  return schema::receive(borrow(), max_bytes, 0);
}

}  // namespace mapcap::broker
