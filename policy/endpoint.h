// An endpoint as the policy sees it: a socket that is an authority. Whoever can connect to it may do what its
// record says, as far as the policy allows its maker the same, at each request (promise 16).
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "policy/model.h"
#include "policy/subject.h"

namespace mapcap::policy {

/// The numbers that endpoints own, hold and are charged as. No user's: who connects with one of these uids is
/// refused, and no /etc/subuid lends them.
inline constexpr std::uint32_t kFirstPrincipal = 0xC0000000;
inline constexpr std::uint32_t kPrincipals = 0x3FFF0000;

constexpr bool is_principal(std::uint32_t id) {
  return id >= kFirstPrincipal && id - kFirstPrincipal < kPrincipals;
}

/// What an endpoint can be allowed at all: neither to make others nor to administer.
const std::bitset<kVerbs>& verbs_of_endpoints();
/// Those that it has when its maker names none: all of them but `clone`.
const std::bitset<kVerbs>& usual_verbs_of_endpoints();

/// The broker's, and its sessions' for as long as they live. Loop only.
struct Endpoint {
  std::string id;
  std::uint32_t principal = 0;
  std::vector<Label> labels;
  Rule record;         ///< What it says, as an allow of whoever has it.
  Subject maker;       ///< By whose leave: judged anew at each request.
  bool ended = false;  ///< Nothing is allowed any more.
};

/// Whether a rule or quota about endpoints means this one.
bool means(const SubjectMatch& match, const Endpoint& endpoint);

}  // namespace mapcap::policy
