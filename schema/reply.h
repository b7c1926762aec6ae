// What the broker says, as plain values: what a client of the library is given is not said again here. The codec maps it
// to packets; nothing else does.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "mapcap/endpoint.h"
#include "mapcap/policy_info.h"
#include "mapcap/pool.h"
#include "mapcap/quota.h"
#include "mapcap/region.h"
#include "mapcap/service.h"
#include "mapcap/words.h"
#include "schema/protocol.h"

namespace mapcap::schema {

struct Welcome {
  std::uint32_t version = kProtocolVersion;
  std::uint64_t features = 0;
  std::string broker;  ///< "mapcapd 0.1.0"
  std::string resume;  ///< 16 random bytes: a secret between this client and the broker.
  std::chrono::nanoseconds grace{0};
  bool resumed = false;  ///< The resume token was known, and its regions are this connection's again.
  bool operator==(const Welcome&) const = default;
};

/// Answer to Create, Open and CloneFd. With `with_fd` the packet carries exactly one descriptor.
struct Granted {
  RegionInfo region;
  Access rights = Access::read_only;
  bool with_fd = false;
  bool operator==(const Granted&) const = default;
};

/// The packet carries exactly one descriptor, the client's end of the port.
struct ClonePort {
  std::uint64_t ticket = 0;
  bool operator==(const ClonePort&) const = default;
};

struct Listing {
  std::vector<RegionInfo> regions;
  std::string next;  ///< Empty: this was the last page.
  bool operator==(const Listing&) const = default;
};

struct Renewed {
  RegionInfo region;
  bool operator==(const Renewed&) const = default;
};

/// Promise 15 holds.
struct Published {
  RegionInfo region;
  bool operator==(const Published&) const = default;
};

struct PoolList {
  std::vector<PoolInfo> pools;
  bool operator==(const PoolList&) const = default;
};

struct QuotaList {
  std::vector<QuotaInfo> quotas;
  std::string next;  ///< Empty: this was the last page.
  bool operator==(const QuotaList&) const = default;
};

/// Answer to QuotaSet, QuotaClear and Goodbye.
struct Done {
  bool operator==(const Done&) const = default;
};

/// `text`: what stands from `offset` on, at most kPolicyPiece bytes; empty: that was all.
struct PolicyPiece : PolicyInForce {
  std::uint64_t size = 0;  ///< Of the whole text, in bytes.
  std::uint64_t offset = 0;
  bool operator==(const PolicyPiece&) const = default;
};

/// Answer to PolicyExplain.
struct Explained : PolicyGrounds {
  std::optional<Failure> refusal;  ///< Absent: allowed. Else what the broker would answer.
  bool operator==(const Explained&) const = default;
};

/// Answer to EndpointCreate, EndpointShow and EndpointRenew. With `with_fd` the packet carries exactly one
/// descriptor: of a mount of the directory that is the holder's alone, through which the socket can be
/// connected (/proc/self/fd/N/mapcap.sock) and nothing else be reached.
struct EndpointTold {
  EndpointInfo endpoint;
  bool with_fd = false;
  bool operator==(const EndpointTold&) const = default;
};

struct EndpointListing {
  std::vector<EndpointInfo> endpoints;
  std::string next;  ///< Empty: this was the last page.
  bool operator==(const EndpointListing&) const = default;
};

/// Where it says Revoked, promise 5 holds. After a ShutdownResult the broker ends; with end_regions promise 5 holds of
/// all regions that it counts.
using ReplyBody =
    std::variant<Failure, Welcome, Granted, Listing, RegionDetails, Renewed, Revoked, PoolList, QuotaList,
                 Done, ClonePort, ShutdownResult, BrokerStatus, ReloadOutcome, PolicyPiece, Explained,
                 Published, EndpointTold, EndpointListing, EndpointEnded>;

struct Reply {
  std::uint64_t id = 0;  ///< The request's.
  ReplyBody body;
  bool operator==(const Reply&) const = default;
};

// ---- notices: the broker speaks first

enum class NoticeKind : std::uint8_t {
  expiring = 0,  ///< The ttl ends in `within`, unless renewed.
  revoking = 1,  ///< A drain began: let go within `within`.
  revoked = 2,   ///< Gone: mappings fault (revocable) or read zeros (sealed).
  progress = 3,  ///< Long work on the caller's own request: `done` of `total` bytes.
};

struct Notice {
  NoticeKind kind = NoticeKind::revoked;
  RegionId id;
  std::string name;
  std::chrono::nanoseconds within{0};
  std::uint64_t request = 0;  ///< Only progress.
  ByteCount done;
  ByteCount total;
  bool operator==(const Notice&) const = default;
};

/// Everything the broker sends.
using FromBroker = std::variant<Reply, Notice>;

}  // namespace mapcap::schema
