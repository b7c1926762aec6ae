// A file that appears under its name when it is complete, and not before.
#pragma once

#include <string>

#include "mapcap/fd.h"

namespace mapcap::cli {

/// Written without a name (O_TMPFILE): whatever ends the program, a full disk or Ctrl-C, nothing is left, and
/// a file that was there stays as it was. "-", devices and pipes are written directly; so is a file whose
/// filesystem has no unnamed files, under a name of its own that is removed again. Throws mapcap::Error.
class NewFile {
 public:
  explicit NewFile(const std::string& path);
  /// Removes what was not kept.
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Now it is complete: gives it its name, in place of what had it.
  void keep();

 private:
  std::string path_;       ///< Where a symbolic link leads. Empty: written directly.
  std::string temporary_;  ///< Beside it; empty while the file has no name.
  Fd fd_;
};

}  // namespace mapcap::cli
