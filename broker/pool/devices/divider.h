// How a region of memory is divided into device-DAX devices, one a carve-out. (ndctl's and daxctl's "region"
// is a backing device here.)
//
// A piece is told from everybody else's devices and from earlier pieces by its word, which records keep:
//
//     namespaces       the number that its name ends in: "mapcap-POOL-1badcafe-00000000000000ff", where
//                      1badcafe is the ledger. Labels keep names, so the pieces outlive a reboot, and the
//                      namespaces of other people, or of another ledger, are left alone.
//     dynamic devices  have no names: the device's number, and a hash of the boot and of its node's inode,
//                      which no later device has. All of such a region is the pool's, and nothing of it
//                      outlives a reboot.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace mapcap::broker::pool {

struct Piece {
  std::uint64_t word = 0;
  std::string path;  ///< "/dev/dax0.1"; empty while it cannot be mapped: half made, or half removed.
};

/// Calls take milliseconds and may not overlap.
class Divider {
 public:
  virtual ~Divider() = default;

  [[nodiscard]] virtual ByteCount whole() const = 0;    ///< The region's size.
  [[nodiscard]] virtual ByteCount granule() const = 0;  ///< Of pieces, with what they cost beyond their size.

  /// The size of the smallest piece that holds so many bytes.
  [[nodiscard]] virtual ByteCount size_for(ByteCount asked) const = 0;

  /// `number`: unused so far. `size`: one that size_for gave. Errors: `pool_full`, `io`; then a half made
  /// piece may be left, which list() has.
  virtual Result<Piece> make(std::uint64_t number, ByteCount size) = 0;

  /// Every piece of this pool.
  virtual Result<std::vector<Piece>> list() = 0;

  /// Takes the device away, and gives its memory back to the region; nobody may have it open or pin it, which
  /// can bring the kernel down (Linux 6.1 to 6.12). Without effect for a piece that is gone. Errors: `io`.
  virtual Result<void> remove(std::uint64_t word) = 0;

  /// Whether a record's word is this piece's, though it cannot be mapped at present.
  [[nodiscard]] virtual bool is(const Piece& piece, std::uint64_t word) const { return piece.word == word; }

  /// Renames a piece, so that it is one of strangers(); nobody may have it open or pin it. Without effect for
  /// one that is gone. Errors: `io`; `unsupported` where pieces have no names.
  virtual Result<void> disown(std::uint64_t /*word*/) {
    return failure(ErrorCode::unsupported, "dynamic dax devices have no names");
  }

  /// Names of pieces that are no longer, or never were, this ledger's. Errors: `io`.
  virtual Result<std::vector<std::string>> strangers() { return std::vector<std::string>(); }
};

/// The region of an NVDIMM that `ndctl list -R` calls "region0". Errors: `not_found`; `invalid` without
/// labels, which keep the names; `unsupported` when a driver is missing; `io`.
Result<std::unique_ptr<Divider>> divide_nvdimm(const std::string& pool, const std::string& region,
                                               std::uint32_t ledger);

/// The dynamic region that `daxctl list -R` gives this id. Errors: as above.
Result<std::unique_ptr<Divider>> divide_dax(const std::string& pool, int region);

}  // namespace mapcap::broker::pool
