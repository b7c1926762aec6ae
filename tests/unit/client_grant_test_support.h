// What the tests of grants and mappings have in common.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mapcap/mapcap.h"

namespace mapcap {

inline constexpr std::size_t kSize = 4 * 4096;

inline Fd memfd(std::size_t size = kSize) {
  Fd fd(::memfd_create("mapping-test", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

inline Grant grant_with(Durability durability, CacheStatus cache = {}) {
  RegionInfo info;
  info.name = "a/b";
  info.size = kSize;
  info.durability = durability;
  info.cache = cache;
  return Grant(memfd(), Access::read_write, std::move(info));
}

template <typename Call>
ErrorCode code_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::malformed;
}

}  // namespace mapcap
