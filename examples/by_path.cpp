// For programs that take paths only: with this library preloaded, opening /dev/fd/N or /proc/self/fd/N gives
// another descriptor of what N already is. Linux alone would open the object behind it again, which grants
// refuse.
//
//     mapcap run alice/heap:rw -- env LD_PRELOAD=$PWD/libby_path.so program /dev/fd/3
#include <dlfcn.h>
#include <fcntl.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace {

std::optional<int> inherited(std::string_view path) {
  for (const std::string_view prefix : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(prefix)) continue;
    const std::string_view number = path.substr(prefix.size());
    if (number.empty() || number.find_first_not_of("0123456789") != std::string_view::npos)
      return std::nullopt;
    return std::atoi(number.data());  // Ends where the path does.
  }
  return std::nullopt;
}

using Open = int (*)(const char*, int, ...);

int open_or_duplicate(const char* symbol, const char* path, int flags, mode_t mode) {
  if (const std::optional<int> fd = inherited(path)) {
    return ::fcntl(*fd, (flags & O_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
  }
  // SAFETY: both symbols have this type in every libc.
  const auto real = reinterpret_cast<Open>(::dlsym(RTLD_NEXT, symbol));
  if (real == nullptr) {
    errno = ENOSYS;
    return -1;
  }
  return real(path, flags, mode);
}

/// The third argument is there only with flags that create.
mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_or_duplicate("open", path, flags, mode);
}

extern "C" int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_or_duplicate("open64", path, flags, mode);
}
