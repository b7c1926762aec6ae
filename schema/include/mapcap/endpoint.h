// An endpoint: a socket that is an authority.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mapcap/words.h"

namespace mapcap {

/// Whoever can connect to the socket may do this, as far as the policy allows its maker the same. Every member has an
/// initializer, so that designated ones may leave out the rest.
struct EndpointSpec {
  std::string id{};                  ///< 1 to 64 of [a-z0-9._-], the first a letter or a digit.
  std::vector<std::string> names{};  ///< Globs. Empty: USER/ID/**, USER being who makes it.
  std::vector<std::string> pools{};  ///< Empty: all.
  std::vector<std::string> verbs{};  ///< Words of the policy. Empty: all about regions, pools and quota.
  Access rights = Access::read_write;
  Limits limits{};                  ///< Its own. Its maker is charged as well.
  std::chrono::nanoseconds ttl{0};  ///< At least 1 s; 0: it does not end by time.
  OnEnd on_end = OnEnd::revoke;
  std::vector<Label> labels{};
  bool operator==(const EndpointSpec&) const = default;
};

struct EndpointInfo {
  EndpointSpec spec;            ///< With what was left open filled in.
  std::uint32_t maker = 0;      ///< uid
  std::uint32_t principal = 0;  ///< What its regions' owner, holders and quotas call it.
  EndpointState state = EndpointState::active;
  std::string directory;  ///< Of its socket, mapcap.sock. Give a container this, by a read-only mount.
  std::chrono::nanoseconds created_unix{0};           ///< Since 1970-01-01 UTC.
  std::optional<std::chrono::nanoseconds> remaining;  ///< Until it ends; absent: not by time.
  std::uint64_t bytes = 0;                            ///< Charged to it now.
  std::uint64_t regions = 0;
  std::uint64_t grants = 0;
  std::uint64_t connections = 0;
  bool operator==(const EndpointInfo&) const = default;
};

/// What became of what an endpoint had made: regions revoked, and those that its maker has now; bytes that
/// stay charged until the last holder lets go. And of what it had opened.
struct EndpointEnded {
  std::uint64_t revoked = 0;
  std::uint64_t kept = 0;
  std::uint64_t held = 0;
  std::uint64_t opened = 0;  ///< Grants of regions that live on, still with whoever got them through it.
  std::vector<std::string> opened_regions{};  ///< Their names; 64 at most.
  std::uint64_t cut = 0;  ///< Regions of its maker that were revoked because its clients had them open.
  bool operator==(const EndpointEnded&) const = default;
};

}  // namespace mapcap
