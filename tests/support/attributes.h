// What a grant says of itself.
#pragma once

#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <string>

#include "mapcap/fd.h"

namespace mapcap::test {

/// The text of an attribute; "!" and errno where it has none.
inline std::string attribute_text(BorrowedFd fd, const char* name) {
  std::array<char, 256> value{};
  const ssize_t length = ::fgetxattr(fd.get(), name, value.data(), value.size());
  if (length < 0) return "!" + std::to_string(errno);
  return {value.data(), static_cast<std::size_t>(length)};
}

}  // namespace mapcap::test
