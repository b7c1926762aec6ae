#include "policy/endpoint.h"

#include <algorithm>

#include "base/glob.h"

namespace mapcap::policy {

namespace {

std::bitset<kVerbs> set_of(std::initializer_list<Verb> verbs) {
  std::bitset<kVerbs> set;
  for (const Verb verb : verbs) set.set(static_cast<std::size_t>(verb));
  return set;
}

}  // namespace

const std::bitset<kVerbs>& verbs_of_endpoints() {
  static const std::bitset<kVerbs> kVerbsOf = usual_verbs_of_endpoints() | set_of({Verb::clone});
  return kVerbsOf;
}

const std::bitset<kVerbs>& usual_verbs_of_endpoints() {
  static const std::bitset<kVerbs> kUsual =
      set_of({Verb::create, Verb::open, Verb::list, Verb::show, Verb::renew, Verb::revoke, Verb::publish,
              Verb::pools, Verb::quota});
  return kUsual;
}

bool means(const SubjectMatch& match, const Endpoint& endpoint) {
  if (!match.endpoint.empty() && !glob_match(match.endpoint, endpoint.id)) return false;
  return match.endpoints() && std::all_of(match.labels.begin(), match.labels.end(), [&](const Label& wanted) {
           return std::find(endpoint.labels.begin(), endpoint.labels.end(), wanted) != endpoint.labels.end();
         });
}

}  // namespace mapcap::policy
