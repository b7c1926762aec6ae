// What the kernel forgot, taken off the books.
//
// Grants end when their holders please, thousands in one moment: a process that ends lets go of all that it
// has. Each costs the loop some microseconds. So they wait in line here, some dozens are taken in one turn of
// the loop, and what each takes is its holder's.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>

#include "broker/confine/confiner.h"
#include "broker/wait/loop.h"
#include "broker/wait/meter.h"

namespace mapcap::broker {

class Releases {
 public:
  /// Taken in one turn of the loop: some 0.1 ms.
  static constexpr std::size_t kAtOnce = 32;

  struct Books {
    /// Who pays for taking it off; empty when nobody has that grant.
    std::function<Meter::Account(confine::GrantId)> account_of;
    std::function<void(confine::GrantId)> take_off;
  };
  Releases(Loop& loop, Books books) : loop_(loop), books_(std::move(books)) {}
  Releases(const Releases&) = delete;
  Releases& operator=(const Releases&) = delete;

  /// In the order in which they come.
  void add(confine::GrantId grant) { waiting_.push_back(grant); }
  /// Takes what was added so far: some dozens now, since a turn of the loop costs more than one of them, and the rest in
  /// turns to come. The loop must end before this does.
  void take() {
    if (!posted_) take_some();
  }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

 private:
  void take_some();

  Loop& loop_;
  Books books_;
  std::deque<confine::GrantId> waiting_;
  bool posted_ = false;
};

}  // namespace mapcap::broker
