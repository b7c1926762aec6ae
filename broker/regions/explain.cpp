// What a verb would answer: exactly its steps, up to where they would change something.
#include "policy/explain.h"

#include <string>
#include <vector>

#include "broker/regions/regions.h"
#include "broker/regions/state_checks.h"
#include "policy/judge.h"
#include "schema/region_name.h"

namespace mapcap::broker {

using policy::Verb;

Result<schema::Explained> Regions::explain(const policy::Subject& subject, const schema::PolicyExplain& ask) {
  MAPCAP_TRY(const Verb verb, policy::parse_verb(ask.verb));
  const std::vector<policy::Offer> offered = offers();
  policy::Question question{verb, ask, offered, {}};
  Region* region = nullptr;
  Result<void> stands = ok();
  if (!policy::nameless(verb) && verb != Verb::create) {
    const Result<schema::RegionName> name = schema::RegionName::parse(ask.region.name);
    if (!name) stands = name.error();
    if (name) region = parts_.directory.find_or_latest(name.value().str());
    // Of what he may not reach he is told what he would be told if it were not there.
    if (region != nullptr && !policy::may_reach(*policy_, subject, as_judged(*region), verb))
      region = nullptr;
    if (region != nullptr) question.existing = as_judged(*region);
  }
  schema::Explained told = policy::explain(*policy_, subject, question);
  if (!stands) told.refusal = stands.error();
  if (told.refusal) return told;
  const auto fits = [&](const std::string& pool, const Amount& amount) {
    return parts_.quotas.check({subject.uid(), subject.shared_groups(), pool, subject.user()}, amount);
  };
  constexpr Amount kGrant{0, 0, 1, 0};
  if (verb == Verb::create) {
    const std::string& pool = told.judged->pool;
    stands = parts_.directory.check_free(ask.region.name);
    if (stands) stands = fits(pool, {told.judged->size, 1, 0, 0});
    if (stands && ask.rights) stands = fits(pool, kGrant);
  } else if (verb == Verb::open) {
    stands = check_grantable(*region);
    if (stands && ask.rights == Access::read_write) stands = check_writable(*region);
    if (stands) stands = fits(region->record.pool, kGrant);
  } else if (verb == Verb::renew) {
    stands = check_renewable(*region);
  }
  if (!stands) told.refusal = stands.error();
  return told;
}

}  // namespace mapcap::broker
