// What is asked, as plain values: what a client of the library gives is not said again here. The codec maps it to
// packets; nothing else does.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "mapcap/endpoint.h"
#include "mapcap/policy_info.h"
#include "mapcap/quota.h"
#include "mapcap/region.h"
#include "mapcap/service.h"
#include "mapcap/words.h"
#include "schema/protocol.h"

namespace mapcap::schema {

/// The first packet of every connection. `resume`: the token of an earlier welcome (16 bytes) to take that
/// connection's `connection` regions back within the grace period, or empty.
struct Hello {
  std::uint32_t version = kProtocolVersion;
  std::uint64_t features = 0;
  std::string client;  ///< For people: program name and version; at most 64 bytes.
  std::string resume;
  bool operator==(const Hello&) const = default;
};

/// Asks for a grant in the same round trip where `grant` says with which rights.
struct Create : RegionSpec {
  std::optional<Access> grant;
  bool operator==(const Create&) const = default;
};

struct Open {
  std::string name;
  Access rights = Access::read_only;
  bool operator==(const Open&) const = default;
};

struct List {
  std::string glob;         ///< Empty: all that the caller may see.
  std::string cursor;       ///< Empty: from the start; else Listing::next of the page before.
  std::uint32_t limit = 0;  ///< At most this many, 0: as many as fit a packet.
  bool operator==(const List&) const = default;
};

struct Show {
  std::string name;
  bool operator==(const Show&) const = default;
};

struct Renew {
  std::string name;
  std::chrono::nanoseconds ttl{0};
  bool operator==(const Renew&) const = default;
};

struct Revoke {
  std::string name;
  bool drain = false;                  ///< Let holders finish first.
  std::chrono::nanoseconds within{0};  ///< Only with drain: then revoke hard. 0: wait without limit.
  bool operator==(const Revoke&) const = default;
};

/// Nobody is to write the region any more. `within`: how long to wait for those who still can.
struct Publish {
  std::string name;
  std::chrono::nanoseconds within{0};
  bool operator==(const Publish&) const = default;
};

struct Pools {
  bool operator==(const Pools&) const = default;
};

/// Usage and limits of every quota slot that the caller may see (its own; all for an administrator).
struct Quota {
  std::string cursor;  ///< Empty: from the start; else QuotaList::next of the page before.
  bool operator==(const Quota&) const = default;
};

/// An administrator's override, kept in the ledger; replaces the policy's limits of the same slot.
struct QuotaSet {
  QuotaSlot slot;
  Limits limits;
  bool operator==(const QuotaSet&) const = default;
};
struct QuotaClear {
  QuotaSlot slot;
  bool operator==(const QuotaClear&) const = default;
};

/// Asks for a port: a socket whose other end a process of its own reads, which looks at what strangers send.
/// The client sends one packet there, with the file's descriptor on it (exactly one; what the packet says
/// does not matter), and then asks for the clone. A connection has one port at a time.
struct AskClonePort {
  bool operator==(const AskClonePort&) const = default;
};

/// An mmap-only clone of the regular file that was sent to the port.
struct CloneFd {
  Access rights = Access::read_only;
  std::uint64_t ticket = 0;  ///< ClonePort::ticket; it is good for one clone.
  bool operator==(const CloneFd&) const = default;
};

/// Of a client that leaves of its own accord: what it made with the lifetime `connection` ends now, without
/// the grace that a client is given which died. The reply comes when all of it is revoked.
struct Goodbye {
  bool operator==(const Goodbye&) const = default;
};

/// For administrators: the broker ends in order. Memory stays with the keeper, unless its regions are to end.
struct Shutdown : ShutdownOptions {
  bool operator==(const Shutdown&) const = default;
};

/// How the broker is. For whoever may ask for the pools.
struct AskStatus {
  bool operator==(const AskStatus&) const = default;
};

/// The policy file is read again; for whom the policy allows `reload`.
struct Reload {
  bool operator==(const Reload&) const = default;
};

/// The policy in force, a piece at a time; for whom it allows `policy`.
struct PolicyShow {
  std::uint64_t offset = 0;  ///< Of the text, in bytes.
  bool operator==(const PolicyShow&) const = default;
};

/// What the broker would answer; nothing is done. Of oneself, and of anybody for whom the policy allows
/// `policy`.
struct PolicyExplain : PolicyQuestion {
  bool operator==(const PolicyExplain&) const = default;
};

struct EndpointCreate {
  EndpointSpec spec;
  bool operator==(const EndpointCreate&) const = default;
};

/// Those that the caller made; all for an administrator.
struct EndpointList {
  std::string cursor;  ///< Empty: from the start; else EndpointListing::next of the page before.
  bool operator==(const EndpointList&) const = default;
};

struct EndpointShow {
  std::string id;
  bool directory = false;  ///< Asks for a descriptor of its directory.
  bool operator==(const EndpointShow&) const = default;
};

/// Restarts its ttl.
struct EndpointRenew {
  std::string id;
  std::chrono::nanoseconds ttl{0};
  bool operator==(const EndpointRenew&) const = default;
};

/// Nobody can connect to it, or goes on being connected, and what it made is revoked or its maker's.
struct EndpointEnd {
  std::string id;
  /// Also revoked are its maker's regions that its clients have open: nothing less takes a grant back.
  bool revoke_opened = false;
  bool operator==(const EndpointEnd&) const = default;
};

using RequestBody =
    std::variant<Hello, Create, Open, List, Show, Renew, Revoke, Pools, Quota, QuotaSet, QuotaClear, CloneFd,
                 AskClonePort, Goodbye, Shutdown, AskStatus, Reload, PolicyShow, PolicyExplain, Publish,
                 EndpointCreate, EndpointList, EndpointShow, EndpointRenew, EndpointEnd>;

struct Request {
  std::uint64_t id = 0;  ///< Chosen by the client; comes back in the reply.
  RequestBody body;
  bool operator==(const Request&) const = default;
};

}  // namespace mapcap::schema
