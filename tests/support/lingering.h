// A socket that nobody can close quickly, for those who must never be the last to hold what a stranger passed.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "mapcap/fd.h"

namespace mapcap::test {

inline constexpr int kLingerSeconds = 60;

/// A TCP connection to oneself whose peer never reads: closing it for the last time takes kLingerSeconds.
struct Lingering {
  Lingering() {
    const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* at = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener.get(), at, size) != 0 || ::listen(listener.get(), 1) != 0) return;
    ::getsockname(listener.get(), at, &size);
    socket = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(socket.get(), at, size) != 0) return;
    peer = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const std::vector<char> filling(1U << 16U);
    while (::send(socket.get(), filling.data(), filling.size(), MSG_DONTWAIT) > 0) {
    }
    const linger long_one{1, kLingerSeconds};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &long_one, sizeof long_one);
  }
  Fd socket;
  Fd peer;
};

}  // namespace mapcap::test
