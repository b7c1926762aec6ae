#include "schema/channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>

namespace mapcap::schema {
namespace {

constexpr std::time_t kConnectSeconds = 5;

/// Room for the control message of one packet with the most descriptors that the kernel carries.
struct alignas(cmsghdr) Control {
  std::array<char, CMSG_SPACE(sizeof(int) * kMaxFdsPerPacket)> bytes{};
};

/// Takes over every descriptor that the kernel installed for `header`, whatever the caller wanted.
std::vector<Fd> adopt_fds(msghdr& header) {
  std::vector<Fd> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      // SAFETY: the kernel wrote `count` ints here; they need not be aligned, hence memcpy.
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

Result<void> check_fds(const msghdr& header, std::size_t got, std::size_t wanted) {
  if (got > wanted) {
    return failure(ErrorCode::malformed, "the packet carries " + std::to_string(got) +
                                             " descriptors, at most " + std::to_string(wanted) +
                                             " are expected here");
  }
  if ((header.msg_flags & MSG_CTRUNC) == 0) return ok();
  // The kernel gave fewer than were sent: the buffer was full, or no descriptor number was free.
  if (got == wanted) {
    return failure(ErrorCode::malformed, "the packet carries more than the " + std::to_string(wanted) +
                                             " descriptors expected here");
  }
  return failure(
      ErrorCode::exhausted,
      "a received descriptor could not be installed; raise the limit on open files (RLIMIT_NOFILE)");
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path || path.find('\0') != std::string::npos) {
    return failure(ErrorCode::invalid, "socket path of " + std::to_string(path.size()) +
                                           " bytes: a path has 1 to " +
                                           std::to_string(sizeof address.sun_path - 1) + " bytes and no NUL");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Failure connect_error(const std::string& path, int errno_value) {
  switch (errno_value) {
    case ECONNREFUSED:
      // A socket that is bound anew is another file: who has the old one mounted waits for ever.
      return failure(ErrorCode::unavailable,
                     "nobody listens at " + path +
                         " any more: start mapcapd; a container needs the socket's directory mounted, since "
                         "each start makes a new socket",
                     {{"socket", path}});
    case ENOENT:
    case ENOTDIR:
      return failure(
          ErrorCode::unavailable,
          "nobody listens at " + path + ": start mapcapd, or name its socket with --socket or MAPCAP_SOCKET",
          {{"socket", path}});
    case EAGAIN:
      return failure(ErrorCode::unavailable,
                     "the broker at " + path + " does not accept connections: its queue has been full for " +
                         std::to_string(kConnectSeconds) + " s",
                     {{"socket", path}});
    case EACCES:
      return failure(ErrorCode::denied,
                     "connect to " + path + ": permission denied by the socket or a directory above it",
                     {{"socket", path}});
    case EPROTOTYPE:
      return failure(ErrorCode::unavailable,
                     path + " is a socket of another kind: it does not belong to mapcapd",
                     {{"socket", path}});
    default:
      return io_error("connect to " + path, errno_value);
  }
}

}  // namespace

namespace {

Result<std::variant<Incoming, Wait>> receive_with(BorrowedFd socket, std::size_t max_bytes,
                                                  std::size_t max_fds, int flags) {
  MAPCAP_INVARIANT(max_fds <= kMaxFdsPerPacket, "more descriptors wanted than a packet can carry");
  // Not zeroed: the kernel fills as much as arrives, and only that is copied out.
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(max_bytes);
  iovec data{buffer.get(), max_bytes};
  Control control;
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  if (max_fds > 0) {
    header.msg_control = control.bytes.data();
    header.msg_controllen = CMSG_SPACE(sizeof(int) * max_fds);
  }
  ssize_t received = -1;
  do {
    // SAFETY: header points at buffers above that live through the call.
    received = ::recvmsg(socket.get(), &header, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    // A peer that closed before it had read everything resets the connection, which is told once, and before
    // what the peer had sent (net/core/datagram.c, sock_error): that is still to be had.
  } while (received < 0 && (errno == EINTR || errno == ECONNRESET));
  if (received < 0) {
    if (errno == EAGAIN) return Wait::would_block;
    return io_error("recvmsg", errno);
  }

  Incoming packet;
  packet.fds = adopt_fds(header);
  if (received == 0) return Wait::closed;
  if ((header.msg_flags & MSG_TRUNC) != 0) {
    return failure(ErrorCode::malformed,
                   "the packet is longer than the " + std::to_string(max_bytes) + " bytes allowed here",
                   {{"limit", std::to_string(max_bytes)}});
  }
  if (max_fds > 0) {
    MAPCAP_TRY_VOID(check_fds(header, packet.fds.size(), max_fds));
  } else {
    packet.dropped_fds = (header.msg_flags & MSG_CTRUNC) != 0;
  }
  packet.bytes.assign(buffer.get(), buffer.get() + received);
  return packet;
}

}  // namespace

Result<std::variant<Incoming, Wait>> receive(BorrowedFd socket, std::size_t max_bytes, std::size_t max_fds) {
  return receive_with(socket, max_bytes, max_fds, 0);
}

Result<std::variant<Incoming, Wait>> peek(BorrowedFd socket, std::size_t max_bytes) {
  return receive_with(socket, max_bytes, 0, MSG_PEEK);
}

Result<bool> send(BorrowedFd socket, std::span<const std::byte> bytes, std::span<const BorrowedFd> fds) {
  if (bytes.empty())
    return failure(ErrorCode::invalid, "an empty packet cannot be sent: it would look like EOF");
  if (fds.size() > kMaxFdsPerPacket) {
    return failure(ErrorCode::invalid, std::to_string(fds.size()) + " descriptors in one packet, at most " +
                                           std::to_string(kMaxFdsPerPacket) + " fit");
  }
  // SAFETY: sendmsg only reads the data; iovec has no const form.
  iovec data{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  Control control;
  if (!fds.empty()) {
    header.msg_control = control.bytes.data();
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    for (std::size_t i = 0; i < fds.size(); ++i) {
      const int fd = fds[i].get();
      // SAFETY: Control has room for kMaxFdsPerPacket ints; memcpy, because CMSG_DATA need not be aligned.
      std::memcpy(CMSG_DATA(part) + i * sizeof(int), &fd, sizeof fd);
    }
  }
  ssize_t sent = -1;
  do {
    // SAFETY: header points at buffers that live through the call.
    sent = ::sendmsg(socket.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return true;
  if (errno == EAGAIN) return false;
  return io_error("sendmsg", errno);
}

Result<std::pair<Fd, Fd>> socket_pair() {
  std::array<int, 2> ends{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    return io_error("socketpair", errno);
  }
  return std::pair(Fd(ends[0]), Fd(ends[1]));
}

Result<Fd> connect_to(const std::string& path) {
  MAPCAP_TRY(const sockaddr_un address, address_of(path));
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return io_error("socket", errno);
  // A blocking connect, so that a full backlog waits its turn; the send timeout is what bounds it.
  const timeval patience{kConnectSeconds, 0};
  const timeval none{};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  int result = -1;
  do {
    // SAFETY: sockaddr_un is what AF_UNIX expects behind a sockaddr pointer.
    result = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return connect_error(path, errno);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0) return io_error("fcntl", errno);
  return socket;
}

}  // namespace mapcap::schema
