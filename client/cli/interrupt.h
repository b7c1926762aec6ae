// Ctrl-C while the broker goes on.
#pragma once

#include <string>

namespace mapcap::cli {

/// While one lives, SIGINT and SIGTERM say this on stderr before they end the program. Nothing for an empty
/// text. One at a time.
class ToldOnInterrupt {
 public:
  explicit ToldOnInterrupt(const std::string& text);
  ~ToldOnInterrupt();
  ToldOnInterrupt(const ToldOnInterrupt&) = delete;
  ToldOnInterrupt& operator=(const ToldOnInterrupt&) = delete;

 private:
  bool set_;
};

}  // namespace mapcap::cli
