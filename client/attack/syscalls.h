// System calls newer than Debian 12's headers, with what they take. Numbers from 424 on are the same on every
// architecture. A kernel without one answers ENOSYS, and the table says unsupported.
#pragma once

#include <cstdint>

namespace mapcap::attack {
namespace number {

inline constexpr long cachestat = 451;       // Linux 6.5
inline constexpr long fchmodat2 = 452;       // Linux 6.6
inline constexpr long statmount = 457;       // Linux 6.8
inline constexpr long listmount = 458;       // Linux 6.8
inline constexpr long mseal = 462;           // Linux 6.10
inline constexpr long setxattrat = 463;      // Linux 6.13
inline constexpr long removexattrat = 466;   // Linux 6.13
inline constexpr long open_tree_attr = 467;  // Linux 6.15
inline constexpr long file_getattr = 468;    // Linux 6.17
inline constexpr long file_setattr = 469;    // Linux 6.17

}  // namespace number

// struct xattr_args
struct XattrArguments {
  std::uint64_t value;  // address
  std::uint32_t size;
  std::uint32_t flags;
};

// struct file_attr
struct FileAttributes {
  std::uint64_t flags;
  std::uint32_t extent_size;
  std::uint32_t extents;
  std::uint32_t project;
  std::uint32_t copy_extent_size;
};

}  // namespace mapcap::attack
