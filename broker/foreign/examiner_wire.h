// What broker and examiner say to each other: fixed-size packets over a socket pair.
#pragma once

#include <cstdint>

namespace mapcap::broker::foreign {

/// To the examiner.
struct Order {
  enum class Kind : std::uint32_t {
    open = 1,  ///< Make port `number`; its client's end comes back.
    look = 2,  ///< At what was sent to the port, which ends with that.
    drop = 3,  ///< The port, or what is to be buried, with all that was sent to it.
    bury =
        4,  ///< Keep the socket that rides on the packet, until the broker has closed its own and says drop.
  };
  Kind kind = Kind::open;
  std::uint32_t reserved = 0;
  std::uint64_t number = 0;
};

/// From the examiner.
struct Report {
  enum class Kind : std::uint32_t {
    port = 1,   ///< Answer to open; the client's end rides on it.
    found = 2,  ///< Answer to look; the file rides on it when it is regular and local.
    done = 3,   ///< After look and drop: everything is let go of, and cost `cost_ns`.
  };
  Kind kind = Kind::port;
  std::uint32_t descriptors = 0;  ///< On the packet that was sent to the port.
  std::uint64_t number = 0;
  std::uint64_t size = 0;
  std::uint64_t cost_ns = 0;  ///< Processor time.
  std::uint32_t mode = 0;     ///< st_mode
  std::uint32_t local = 0;    ///< Of a filesystem that no process answers for: 1, else 0.
};

}  // namespace mapcap::broker::foreign
