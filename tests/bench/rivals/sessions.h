// Clients of each way.
#pragma once

#include <memory>
#include <string>

#include "mapcap/types.h"
#include "tests/bench/rivals/way.h"

namespace mapcap::bench {

std::unique_ptr<Session> floor_session(const std::string& socket);
/// At the path of a socket.
std::unique_ptr<Session> peer_bus_session(const std::string& path);
/// On the bus at an address as D-Bus writes it.
std::unique_ptr<Session> bus_session(const std::string& address);
/// No broker at all: names in /dev/shm, which everybody can truncate who can write.
std::unique_ptr<Session> shm_session();

/// Regions of `pool`; `shared` is one that everybody may open.
struct Brokered {
  std::string socket;
  std::string pool;
  SealKind seal = SealKind::sealed;
  std::string shared;
  std::string beside{};  ///< A directory on the same filesystem; empty: memory.
};
std::unique_ptr<Session> mapcap_session(const Brokered& from, int number);

}  // namespace mapcap::bench
