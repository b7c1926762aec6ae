// Every backend that a machine without NVDIMMs has, for tests that must hold on each.
#pragma once

#include <mapcap/mapcap.h>

#include <array>
#include <string>

namespace mapcap::test {

enum class Backend {
  sealed,         ///< memfds that cannot shrink
  revocable,      ///< memfds that can
  huge,           ///< files of a detached tmpfs with huge pages
  secret,         ///< memfd_secret
  unconfined,     ///< plain sealed memfds: no keeper is asked for them
  file_on_tmpfs,  ///< dax-file in /dev/shm
  file_on_disk,   ///< dax-file in /var/tmp
};
inline constexpr std::array kBackends{Backend::sealed,      Backend::revocable,  Backend::huge,
                                      Backend::secret,      Backend::unconfined, Backend::file_on_tmpfs,
                                      Backend::file_on_disk};

const char* to_string(Backend backend);
SealKind seal_of(Backend backend);
/// The contents outlive both broker and keeper.
bool survives_both(Backend backend);

/// Empty, or why this backend cannot be had here.
std::string what_lacks(Backend backend);

/// What the pool needs outside the broker's own directory; removed with this.
class BackendScratch {
 public:
  explicit BackendScratch(Backend backend);
  ~BackendScratch();
  BackendScratch(const BackendScratch&) = delete;
  BackendScratch& operator=(const BackendScratch&) = delete;

  /// A policy with one pool of this backend, called "pool".
  [[nodiscard]] std::string policy(const std::string& capacity) const;
  /// The pool's; empty for memory.
  [[nodiscard]] const std::string& directory() const { return directory_; }
  /// Where a test may move that; removed with this, too.
  [[nodiscard]] std::string away() const { return directory_ + ".away"; }
  /// Region files in the pool's directory; 0 for memory.
  [[nodiscard]] std::size_t files() const;

 private:
  Backend backend_;
  std::string directory_;
};

}  // namespace mapcap::test
