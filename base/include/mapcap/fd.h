// File descriptors whose type says who closes them.
#pragma once

#include <unistd.h>

#include <utility>

namespace mapcap {

/// Looks at a descriptor that somebody else owns and keeps open for as long as this is used.
class BorrowedFd {
 public:
  constexpr BorrowedFd() = default;
  constexpr explicit BorrowedFd(int fd) : fd_(fd) {}
  [[nodiscard]] constexpr int get() const { return fd_; }
  [[nodiscard]] constexpr bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Owns a descriptor and closes it. Moving leaves the source empty; assigning closes the old one first.
class Fd {
 public:
  constexpr Fd() = default;
  constexpr explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = other.release();
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] constexpr int get() const { return fd_; }
  [[nodiscard]] constexpr bool valid() const { return fd_ >= 0; }
  [[nodiscard]] constexpr BorrowedFd borrow() const { return BorrowedFd(fd_); }
  /// Gives ownership up; the caller closes.
  [[nodiscard]] constexpr int release() { return std::exchange(fd_, -1); }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

}  // namespace mapcap
