// Whether the medium takes changes. A disk that is full, or fails, is told of once, and again when it is
// over.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "base/result.h"

namespace mapcap::broker::ledger {

class Health {
 public:
  using Told = std::function<void(const Failure*)>;

  void tell(Told told) { told_ = std::move(told); }
  [[nodiscard]] const std::optional<Failure>& trouble() const { return trouble_; }

  /// A change of record `id` came to its end. Only `io` is trouble of the medium's. It is over when the same
  /// record is taken, or a later one, which asks for all that the refused one asked for: an update in place
  /// needs no room.
  void changed(std::uint64_t id, const Result<void>& result) {
    if (!result) {
      if (result.error().code != ErrorCode::io) return;
      const bool first = !trouble_;
      trouble_ = result.error();
      refused_ = id;
      if (first && told_) told_(&*trouble_);
    } else if (trouble_ && id >= refused_) {
      trouble_.reset();
      if (told_) told_(nullptr);
    }
  }

 private:
  Told told_;
  std::optional<Failure> trouble_;
  std::uint64_t refused_ = 0;
};

}  // namespace mapcap::broker::ledger
