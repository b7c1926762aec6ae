// From the bytes of a medium to a table that can be worked with: read, adopt, free what is dead.
#pragma once

#include <array>
#include <memory>

#include "broker/ledger/ledger.h"
#include "broker/ledger/medium/medium.h"
#include "broker/ledger/table/superblock.h"
#include "broker/ledger/table/table.h"

namespace mapcap::broker::ledger {

/// Ids that one superblock update reserves. After each start numbering goes on behind the last reservation.
inline constexpr std::uint64_t kIdChunk = 1U << 16U;

/// The read-only half, which the check shares: what the bytes hold.
struct Reading {
  Superblock superblock;
  std::array<bool, 2> intact{};
  Scan scan;
  std::vector<RegionRecord> regions;
  struct Quota {
    std::uint64_t id = 0;
    QuotaRecord record;
  };
  std::vector<Quota> quotas;
  struct Endpoint {
    EndpointRecord record;
    std::vector<std::uint64_t> texts;  ///< The ids of its slots of text, in order.
  };
  std::vector<Endpoint> endpoints;
  struct Unreadable {
    std::uint32_t slot = 0;
    std::string why;
  };
  std::vector<Unreadable> unreadable;  ///< Their checksums hold but not their fields; counted as damaged.
  std::uint64_t next_id = 1;           ///< Above every id that may ever have been given out.
};
/// Errors: `invalid` as read_superblock(), `io` when the medium cannot be read.
Result<Reading> read(Medium& medium);

/// check() of ledger.h, on any medium.
Result<bool> check(Medium& medium, std::FILE* out);

/// forget_damaged() of ledger.h, on any medium.
Result<std::uint64_t> forget_damaged(Medium& medium);

/// Reads, makes what it read durable, frees what is dead. Blocks. Errors: as read(), and `io` of the medium.
struct Opened {
  Superblock superblock;
  std::array<bool, 2> intact{};
  std::unique_ptr<Table> table;
  Recovered recovered;
  std::vector<Reading::Quota> quotas;
  std::vector<Reading::Endpoint> endpoints;
  std::uint64_t next_id = 1;
};
Result<Opened> recover(Medium& medium);

/// A ledger on any medium, for tests and tools; Ledger::open() is this on a file. Blocks.
/// Errors: as recover().
Result<std::unique_ptr<Ledger>> open_on(std::shared_ptr<Medium> medium, broker::Loop& loop,
                                        broker::Worker& worker);

}  // namespace mapcap::broker::ledger
