// The compiled device_holders.bpf.c. Its source is written by cmake/embed.cmake.
#pragma once

#include <span>

namespace mapcap::broker::device_holders {

/// An ELF object for libbpf; lives as long as the process.
std::span<const unsigned char> object();

}  // namespace mapcap::broker::device_holders
