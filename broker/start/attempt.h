// What a start that fails takes back: its socket's path, and the keeper that it started. One that it adopted carries
// regions, and stays for the next try.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "broker/keeper/keeper.h"

namespace mapcap::broker {

class Attempt {
 public:
  /// `socket` outlives this. A broker that serves ends without unwinding (main.cpp).
  explicit Attempt(const std::string& socket) : socket_(socket) {}
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;
  ~Attempt();

  /// Errors: of Keeper::adopt_or_start.
  Result<keeper::Keeper*> keeper(const keeper::KeeperOptions& options);

 private:
  const std::string& socket_;
  std::unique_ptr<keeper::Keeper> keeper_;
};

}  // namespace mapcap::broker
