// One packet and its descriptors, over a connected SOCK_SEQPACKET Unix socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap::schema {

struct Incoming {
  std::vector<std::byte> bytes;
  std::vector<Fd> fds;       ///< CLOEXEC. Empty unless asked for.
  bool dropped_fds = false;  ///< The peer attached descriptors that nobody asked for; none was installed.
};

/// Most descriptors of one packet (the kernel's SCM_MAX_FD).
inline constexpr std::size_t kMaxFdsPerPacket = 253;

/// What a receive found. closed: EOF, or a zero-length packet, which looks the same.
enum class Wait : std::uint8_t { would_block, closed };

/// Receives one packet without blocking (MSG_DONTWAIT).
/// max_bytes: a longer packet is an error `malformed` (MSG_TRUNC). max_fds: 0 receives with no control
/// buffer, so that the kernel installs nothing; otherwise up to max_fds are taken over, and more are closed
/// with an error. Errors: `malformed`, `exhausted` (this process has no descriptor number left for what was
/// sent), `io` (errno detail; ECONNRESET counts as closed).
Result<std::variant<Incoming, Wait>> receive(BorrowedFd socket, std::size_t max_bytes, std::size_t max_fds);

/// The same with no descriptors, and the packet stays where it is.
Result<std::variant<Incoming, Wait>> peek(BorrowedFd socket, std::size_t max_bytes);

/// Sends one packet with up to 253 descriptors without blocking (MSG_NOSIGNAL|MSG_DONTWAIT). The descriptors
/// stay the caller's. Returns false when the peer's queue is full (EAGAIN): nothing was sent. Errors:
/// `invalid` for an empty packet (it would look like EOF) or more than 253 descriptors, `io`.
Result<bool> send(BorrowedFd socket, std::span<const std::byte> bytes, std::span<const BorrowedFd> fds = {});

/// A connected, CLOEXEC, non-blocking SOCK_SEQPACKET pair: for tests and between broker and keeper.
Result<std::pair<Fd, Fd>> socket_pair();

/// Connects to a listening SOCK_SEQPACKET socket; the result is CLOEXEC and non-blocking. Waits at most 5 s
/// for a listener whose backlog is full. Errors: `unavailable` when nobody listens or accepts there (says
/// what to start), `denied` when the socket's permissions refuse, `invalid` for a path that does not fit
/// sun_path, `io` otherwise.
Result<Fd> connect_to(const std::string& path);

}  // namespace mapcap::schema
