// The parts of the FUSE protocol that the keeper speaks and that linux-libc-dev 6.1 does not have.
//
// Names of our own, so that newer headers do not clash. Every number is from include/uapi/linux/fuse.h of the
// kernel version given.
#pragma once

#include <linux/fuse.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace mapcap::broker::keeper::fuse {

/// INIT flags live in one 64-bit word: the lower half in `flags`, the upper in `flags2`
/// (FUSE_INIT_EXT, 5.17).
inline constexpr std::uint64_t kInitExt = std::uint64_t{1} << 30U;
inline constexpr std::uint64_t kPassthrough = std::uint64_t{1} << 37U;     ///< 6.9
inline constexpr std::uint64_t kRequestTimeout = std::uint64_t{1} << 42U;  ///< 6.14

/// Open flags.
inline constexpr std::uint32_t kDirectIo = 1U << 0U;
inline constexpr std::uint32_t kNoFlush = 1U << 5U;          ///< 5.16
inline constexpr std::uint32_t kOpenPassthrough = 1U << 7U;  ///< 6.9

inline constexpr std::uint32_t kStatxOpcode = 52;  ///< 6.6
/// The newest protocol minor whose structures are used here (6.14). The lower of ours and the kernel's
/// counts.
inline constexpr std::uint32_t kMinor = 43;

/// fuse_init_out since 6.14: 64 bytes.
struct InitOut {
  std::uint32_t major;
  std::uint32_t minor;
  std::uint32_t max_readahead;
  std::uint32_t flags;
  std::uint16_t max_background;
  std::uint16_t congestion_threshold;
  std::uint32_t max_write;  ///< Bytes; the kernel raises it to 4096.
  std::uint32_t time_gran;  ///< Nanoseconds.
  std::uint16_t max_pages;
  std::uint16_t map_alignment;
  std::uint32_t flags2;
  std::uint32_t max_stack_depth;  ///< 6.9: how deep the backing may be stacked; counts this filesystem.
  std::uint16_t request_timeout;  ///< 6.14: seconds until the kernel aborts the connection.
  std::uint16_t unused[11];
};
static_assert(sizeof(InitOut) == 64);

/// fuse_open_out since 6.9: the padding became the backing id.
struct OpenOut {
  std::uint64_t fh;
  std::uint32_t open_flags;
  std::int32_t backing_id;
};
static_assert(sizeof(OpenOut) == sizeof(fuse_open_out));

/// Argument of the BACKING_OPEN ioctl (6.9).
struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
static_assert(sizeof(BackingMap) == 16);

// 229 is FUSE_DEV_IOC_MAGIC.
inline constexpr unsigned long kBackingOpen = _IOW(229, 1, BackingMap);      // NOLINT: the kernel's macro
inline constexpr unsigned long kBackingClose = _IOW(229, 2, std::uint32_t);  // NOLINT: the kernel's macro
inline constexpr unsigned long kClone = _IOR(229, 0, std::uint32_t);         // NOLINT: the kernel's macro

/// The kernel refuses to read requests into less (FUSE_MIN_READ_BUFFER).
inline constexpr std::size_t kReadBuffer = 8192;

}  // namespace mapcap::broker::keeper::fuse
