// A connection to the broker.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapcap/api.h"
#include "mapcap/error.h"
#include "mapcap/fd.h"
#include "mapcap/grant.h"
#include "mapcap/policy.h"
#include "mapcap/types.h"

namespace mapcap {

/// What the broker tells without being asked.
struct Notice {
  enum class Kind : std::uint8_t {
    expiring = 0,     ///< The region's ttl ends in `within` unless it is renewed.
    revoking = 1,     ///< A drain began: let go of the region within `within` (0: no limit).
    revoked = 2,      ///< Gone: mappings of it fault (revocable) or read zeros (sealed).
    reconnected = 3,  ///< From the library: the connection was lost and is there again. See `resumed`.
  };
  Kind kind = Kind::revoked;
  std::uint64_t region = 0;
  std::string name;
  std::chrono::nanoseconds within{0};
  bool resumed = false;  ///< Only reconnected: regions with lifetime `connection` are still this client's.
};

/// Bytes done of bytes to do, while a create or revoke is at work.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

struct ConnectOptions {
  /// Empty: $MAPCAP_SOCKET, else /run/mapcap/mapcap.sock.
  std::string socket{};
  /// For the broker's log: program name and version, at most 64 bytes. Empty: the program's name.
  std::string program{};
  /// How long one call may take in all, reconnecting included; a call that reports progress, and a drain, may
  /// take longer. Error when it passes: `timed_out`.
  std::chrono::milliseconds deadline{30000};
  /// How long a call goes on trying to reach a broker that was there before and is gone. 0: not at all.
  /// Error when it passes: `unavailable`.
  std::chrono::milliseconds reconnect_within{10000};
  /// How long connect() itself waits for a broker to appear. 0: it must be there.
  std::chrono::milliseconds wait_for_broker{0};
  /// Asks for notices: called from poll(), on the thread that calls it, with no lock held.
  std::function<void(const Notice&)> on_notice{};
};

/// How to revoke. drain: connected holders are told, and may finish `within` (0: no limit) before it is
/// enforced.
struct RevokeOptions {
  bool drain = false;
  std::chrono::nanoseconds within{0};
  Progress progress{};  ///< May be empty. Must not call the client.
};

/// One connection to the broker, made again by itself when the broker restarts: the call under way is
/// repeated and the connection's regions are taken back with a resume token, within the broker's grace
/// period. Its destructor ends the regions with lifetime `connection` that it created, at once (it waits for the broker to
/// have done that, at most a second); those of a program that dies end after the grace period.
///
/// Thread-safe: calls are made one at a time, so give a thread that must not wait its own Client. Every
/// method throws mapcap::Error; beside what is named, any may throw `unavailable`, `timed_out`, `malformed`,
/// `denied`, `exhausted`. Not usable in a forked child: connect again there.
class MAPCAP_API Client {
 public:
  /// Errors: `unavailable` (says what to start), `denied` (the socket's permissions), `version`.
  static Client connect(ConnectOptions options = {});

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  /// Errors: `exists`, `over_quota`, `pool_full`, `cache_mode`, `invalid`, `unsupported`.
  /// When the broker went away during the call and the name exists afterwards, nobody can say whose it is:
  /// the error is `exists` with the detail ambiguous=true.
  RegionInfo create(const RegionSpec& spec, const Progress& progress = {});
  /// Creates and opens in one round trip.
  Grant create(const RegionSpec& spec, Access rights, const Progress& progress = {});
  /// Errors: `not_found`, `busy` while it is being revoked, `lost`; for writing: `denied` when it is published, `busy`
  /// while it is being published.
  Grant open(std::string_view name, Access rights);

  /// What the caller may see of the regions that match a glob ('*' within a component, '**' across), by name.
  /// Fetched page by page: not one instant.
  std::vector<RegionInfo> list(std::string_view glob = {});
  /// Errors: `not_found`.
  RegionDetails show(std::string_view name);
  /// Restarts a ttl. Errors: `invalid` for a region without ttl or above the policy's maximum.
  RegionInfo renew(std::string_view name, std::chrono::nanoseconds ttl);
  /// When it returns, nobody can read or write the region's contents any more.
  Revoked revoke(std::string_view name, const RevokeOptions& options = {});

  /// When it returns, nobody can write the region any more, its owner neither, until it ends: no writable grant or
  /// mapping is left, no page is pinned (io_uring, direct I/O), and no writable grant will be made. Waits up to `within`
  /// for those that are left; meanwhile nobody gets another, afterwards they do where it failed. Repeating it changes
  /// nothing. Errors: `busy` while somebody can write it, naming those that are known; `unsupported` for memory of which
  /// nobody can tell; `denied`, `lost`.
  RegionInfo publish(std::string_view name, std::chrono::nanoseconds within = std::chrono::nanoseconds(0));

  std::vector<PoolInfo> pools();
  /// The caller's own slots; every slot for an administrator.
  std::vector<QuotaInfo> quota();
  /// For administrators: replaces the policy's limits of that slot, over restarts, until cleared.
  void quota_set(const QuotaSlot& slot, const Limits& limits);
  void quota_clear(const QuotaSlot& slot);

  /// How the broker is: whether all memory has a second holder, changes are recorded, and who serves what.
  BrokerStatus status();
  /// For administrators: the broker ends, in order. Regions stay, those of volatile memory with the keeper for the
  /// next broker, unless they are to end: then it returns when nobody can read or write their contents any more.
  /// The broker itself ends a moment later. Errors: `denied`; `busy` when volatile memory has no second holder at
  /// the moment and would be lost; `io` when the ledger refuses: then the broker goes on.
  ShutdownResult shutdown(const ShutdownOptions& options = {});
  /// For whom the policy allows `reload`: the broker reads its policy file again. A file that is wrong is no
  /// error: the outcome says how. Errors: `not_found`, `denied`, `io` of a file that cannot be read.
  ReloadOutcome reload();
  /// For whom it allows `policy`: the policy in force.
  PolicyInForce policy();
  /// What the broker would answer, and why; nothing is done. About oneself, and for whom the policy allows
  /// `policy` about anybody. Errors: `invalid` for a verb that there is not.
  PolicyAnswer explain(const PolicyQuestion& question);
  /// Makes an endpoint, which listens when this returns. It is the caller's to renew and to end, and he is
  /// charged for what is done through it. Errors: `exists`, `invalid`, `over_quota` for too many of them.
  EndpointInfo endpoint_create(const EndpointSpec& spec);
  /// The caller's own; every one for an administrator. Page by page: not one instant.
  std::vector<EndpointInfo> endpoints();
  /// Ids are each maker's own. An administrator names another's as USER/ID, or as ID where only one user has it and
  /// he has none of that id himself. Errors: `not_found`, `invalid` where it could be several.
  EndpointInfo endpoint(std::string_view id);
  /// Restarts its ttl. Errors: `not_found`, `invalid` for one without ttl.
  EndpointInfo endpoint_renew(std::string_view id, std::chrono::nanoseconds ttl);
  /// When it returns, nobody can connect to the endpoint or is connected by it, and what it made is revoked, or
  /// the maker's. Grants of other regions that went through it stay with whoever has them: no kernel takes one
  /// back, and the result tells of which regions they are. `revoke_opened`: of those regions the maker's own are
  /// revoked too, for everybody. Errors: `not_found`; `busy` when an end without `revoke_opened` is under way; `io`
  /// when the ledger refuses: the end goes on when it no longer does, or can be repeated.
  EndpointEnded endpoint_end(std::string_view id, bool revoke_opened = false);
  /// A descriptor of a mount of the endpoint's directory that is in no tree: whoever has it can connect to
  /// /proc/self/fd/N/mapcap.sock, and reach nothing else through it. Each is a mount, so a user gets 64 of them at
  /// once and then one every ten seconds. Errors: `not_found`, `busy` while it ends, `exhausted`.
  Fd endpoint_directory(std::string_view id);

  /// An mmap-only clone of a regular file that the caller has open, with at most the rights of `fd`, which
  /// stays the caller's. Its size is the file's of that moment: one that grows afterwards can be mapped
  /// beyond it, one that shrinks faults there. Errors: `unsupported` for what cannot be cloned, `denied` for
  /// more rights than `fd` has, `invalid` for a number that is no open descriptor.
  Grant clone(int fd, Access rights);

  /// Readable when poll() has something to do. The same number for the Client's whole life.
  [[nodiscard]] int fd() const;
  /// Delivers notices and, after the broker went away, tries to reach it again. Does not wait for anything
  /// else. Returns how many notices it delivered. A program that holds `connection` regions and makes no
  /// calls should poll() whenever fd() is readable, or the broker's grace period may pass.
  std::size_t poll();

  /// The broker's name and version, from its welcome.
  [[nodiscard]] std::string broker() const;
  [[nodiscard]] const std::string& socket() const;

 private:
  class Implementation;
  explicit Client(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation_;
};

/// The socket that connect() uses when none is given: $MAPCAP_SOCKET, else /run/mapcap/mapcap.sock.
MAPCAP_API std::string default_socket();

}  // namespace mapcap
