// The files of a dax-file pool: names, and the calls on them that can fail.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "broker/pool/bad_blocks.h"
#include "broker/pool/pool.h"

namespace mapcap::broker::pool {

/// What a file of the pool is, as its name says.
enum class FileKind : std::uint8_t { region, damaged };

/// Thread-safe: nothing changes but the directory.
class RegionFiles {
 public:
  using Fault = std::function<int(std::string_view call)>;
  /// `where`: "pool NAME (PATH)", for messages. `ledger`: the identity of whoever has the records.
  RegionFiles(Fd directory, std::string where, std::uint32_t ledger, Fault fault);

  [[nodiscard]] BorrowedFd directory() const { return directory_.borrow(); }

  /// A new, empty file. Errors: `exists`, `io`, `pool_full`.
  Result<Fd> make(std::uint64_t number) const;
  /// Errors: `lost` when there is none, `io`.
  Result<Fd> open(std::uint64_t number, FileKind kind = FileKind::region) const;
  /// The same file for changing it. Errors: `io`.
  Result<Fd> open_for_writing(std::uint64_t number) const;

  /// Allocates [0, size). Errors: `pool_full`, `io`.
  Result<void> allocate(BorrowedFd fd, ByteCount size) const;
  /// Writes zeros over [0, size): on DAX with non-temporal stores, by the kernel, where a damaged sector is
  /// an error and not a signal. Errors: `pool_full`, `io`.
  Result<void> write_zeros(BorrowedFd fd, ByteCount size, const Progress& progress) const;
  /// File and directory are durable when it returns. Errors: `io`.
  Result<void> sync(BorrowedFd fd) const;

  /// Keeps the damaged parts allocated under a name that no other file has, so that nobody gets them, and
  /// gives the rest back. Errors: `io`.
  Result<void> set_aside(BorrowedFd fd, std::uint64_t number, ByteCount size,
                         const std::vector<ByteRange>& damaged) const;

  /// Whether all of a file can be read and is zero.
  [[nodiscard]] bool is_blank(BorrowedFd fd) const;
  /// Gives a region's file a name that no ledger's files have. Errors: `exists`, `io`.
  Result<void> disown(std::uint64_t number) const;

  /// Removes the name durably; none is no error. Errors: `io`.
  Result<void> unlink(std::uint64_t number, FileKind kind = FileKind::region) const;

  /// Numbers of all files of a kind; of regions those of this ledger. Errors: `io`.
  [[nodiscard]] Result<std::vector<std::uint64_t>> list(FileKind kind) const;
  /// Names of regions' files that are no longer, or never were, this ledger's. Errors: `io`.
  [[nodiscard]] Result<std::vector<std::string>> of_other_ledgers() const;

 private:
  [[nodiscard]] std::string name_of(FileKind kind, std::uint64_t number) const;
  /// Nothing for names that name_of(kind) never made.
  [[nodiscard]] std::optional<std::uint64_t> number_of(FileKind kind, const std::string& name) const;
  [[nodiscard]] Result<std::vector<std::string>> names() const;
  Result<void> may(std::string_view call) const;
  [[nodiscard]] Failure failed(std::string_view what, int error) const;

  Fd directory_;
  std::string where_;
  std::string region_prefix_;
  Fault fault_;
};

}  // namespace mapcap::broker::pool
