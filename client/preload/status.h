// What stat and its like say of a region.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "client/preload/real.h"
#include "client/preload/served.h"

namespace mapcap::preload {

inline int tell_of_device(const Served& served, struct stat* to) {
  return MAPCAP_REAL(fstat)(served.fd, to);
}
inline int tell_of_device(const Served& served, struct stat64* to) {
  return MAPCAP_REAL(fstat64)(served.fd, to);
}
/// A regular file of the region's size, its user's own: what programs want to see before they read one. Its
/// times are that of its creation: nobody knows when memory was written. The
/// kernel knows a grant as a file of root's, from 1970, which some refuse; and asked through a path it knows nothing.
template <typename Status>
int tell(const Served& served, Status* to) {
  if (served.is_device) return tell_of_device(served, to);
  std::memset(to, 0, sizeof *to);
  to->st_dev = served.device;
  to->st_ino = served.inode;
  to->st_mode = S_IFREG | (served.writable ? 0600 : 0400);
  to->st_nlink = 1;
  to->st_uid = ::geteuid();
  to->st_gid = ::getegid();
  to->st_size = static_cast<off_t>(served.size);
  to->st_blksize = 4096;
  to->st_blocks = static_cast<blkcnt_t>((served.size + 511) / 512);
  to->st_atim.tv_sec = to->st_mtim.tv_sec = to->st_ctim.tv_sec = served.made;
  return 0;
}

inline int tell(const Served& served, struct statx* to) {
  if (served.is_device) return MAPCAP_REAL(statx)(served.fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, to);
  std::memset(to, 0, sizeof *to);
  to->stx_mask = STATX_BASIC_STATS;
  to->stx_blksize = 4096;
  to->stx_nlink = 1;
  to->stx_uid = ::geteuid();
  to->stx_gid = ::getegid();
  to->stx_mode = static_cast<__u16>(S_IFREG | (served.writable ? 0600 : 0400));
  to->stx_ino = served.inode;
  to->stx_size = served.size;
  to->stx_blocks = (served.size + 511) / 512;
  to->stx_atime.tv_sec = to->stx_mtime.tv_sec = to->stx_ctime.tv_sec = served.made;
  return 0;
}

}  // namespace mapcap::preload
