// What can be made an endpoint, by whom, and how many.
#include <algorithm>
#include <utility>

#include "base/text.h"
#include "broker/door/endpoints.h"
#include "broker/ledger/table/endpoint_layout.h"
#include "policy/endpoint.h"
#include "schema/endpoint_id.h"
#include "schema/name_glob.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using ledger::EndpointRecord;
using policy::Verb;

namespace {

/// Of all, and of each maker who is no administrator: each has a socket, and a share of the loop of its own.
constexpr std::size_t kMost = 4096;
constexpr std::size_t kMostOfOne = 64;
constexpr std::size_t kMostWords = 64;

template <typename T>
Result<void> few(const std::vector<T>& list, const char* what) {
  if (list.size() <= kMostWords) return ok();
  return failure(ErrorCode::invalid, "an endpoint has at most " + std::to_string(kMostWords) + " " + what +
                                         ", not " + std::to_string(list.size()));
}

Result<void> check_verbs(const std::vector<std::string>& verbs) {
  for (const std::string& word : verbs) {
    MAPCAP_TRY(const Verb verb, policy::parse_verb(word));
    if (policy::verbs_of_endpoints().test(static_cast<std::size_t>(verb))) continue;
    return failure(ErrorCode::invalid, "no endpoint can have the verb " + word +
                                           ": endpoints neither administer nor make endpoints");
  }
  return ok();
}

std::vector<std::string> usual_words() {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < policy::kVerbs; ++i) {
    if (policy::usual_verbs_of_endpoints().test(i)) words.emplace_back(to_string(static_cast<Verb>(i)));
  }
  return words;
}

/// What no endpoint can be, whatever the policy.
Result<void> check_sense(const EndpointSpec& spec) {
  MAPCAP_TRY_VOID(schema::check_endpoint_id(spec.id));
  MAPCAP_TRY_VOID(few(spec.names, "names"));
  MAPCAP_TRY_VOID(few(spec.pools, "pools"));
  MAPCAP_TRY_VOID(few(spec.verbs, "verbs"));
  MAPCAP_TRY_VOID(few(spec.labels, "labels"));
  for (const std::string& name : spec.names) {
    const std::string fault = schema::why_no_name_matches(name, schema::Placeholders::none);
    if (!fault.empty()) return failure(ErrorCode::invalid, "\"" + presentable(name, 300) + "\" " + fault);
  }
  MAPCAP_TRY_VOID(check_verbs(spec.verbs));
  for (const Label& label : spec.labels) {
    MAPCAP_TRY_VOID(schema::check_label(label));
    const auto same = [&](const Label& other) { return other.key == label.key; };
    if (std::count_if(spec.labels.begin(), spec.labels.end(), same) > 1)
      return failure(ErrorCode::invalid, "label " + label.key + " is given twice");
  }
  if (spec.ttl != 0ns && spec.ttl < 1s) return failure(ErrorCode::invalid, "a ttl is at least 1 s");
  return ok();
}

}  // namespace

Result<void> Endpoints::check_room(const policy::Subject& maker) const {
  const auto refused = [](const std::string& who, std::size_t has) {
    return failure(ErrorCode::over_quota,
                   who + " has " + std::to_string(has) +
                       " endpoints, as many as there may be, with those that have ended and are still held; "
                       "end some",
                   {{"used", std::to_string(has)}, {"limit", std::to_string(has)}});
  };
  // Some are left for administrators, whoever has the rest.
  const std::size_t most = maker.administrator() ? kMost : kMost - kMostOfOne;
  if (all_.size() >= most) return refused("the broker", all_.size());
  if (maker.administrator()) return ok();
  // A user with a range of subordinate uids is one.
  const std::uint32_t account = parts_.quotas.account_of(maker.uid());
  const auto own = static_cast<std::size_t>(std::count_if(all_.begin(), all_.end(), [&](const auto& entry) {
    const EndpointRecord& record = entry.second->record;
    return !record.maker_administrator && parts_.quotas.account_of(record.maker) == account;
  }));
  if (own >= kMostOfOne) return refused(maker.describe(), own);
  return ok();
}

Result<EndpointRecord> Endpoints::plan(const Caller& caller, EndpointSpec spec) {
  const policy::Subject& maker = caller.subject;
  MAPCAP_TRY_VOID(parts_.regions.authorize(caller, Verb::endpoint));
  MAPCAP_TRY_VOID(check_sense(spec));
  for (const std::string& pool : spec.pools) {
    MAPCAP_TRY_VOID(parts_.regions.policy().find_pool(pool));
  }
  const Name name = own_name(maker, spec.id);
  if (by_name_.contains(name) || making_.contains(name)) {
    return failure(ErrorCode::exists,
                   "an endpoint " + spec.id + " exists already; end it or choose another id",
                   {{"endpoint", spec.id}});
  }
  MAPCAP_TRY_VOID(check_room(maker));
  EndpointRecord record;
  record.id = spec.id;
  record.maker = maker.uid();
  record.maker_group = maker.gid();
  record.maker_administrator = maker.administrator();
  record.on_end = spec.on_end;
  record.rights = spec.rights;
  record.limits = spec.limits;
  record.created_unix_ns = parts_.clock.unix_ns();
  record.names = std::move(spec.names);
  if (record.names.empty()) record.names = {maker.user() + "/" + spec.id + "/**"};
  record.pools = std::move(spec.pools);
  record.verbs = spec.verbs.empty() ? usual_words() : std::move(spec.verbs);
  record.labels = std::move(spec.labels);
  record.groups = maker.groups();
  std::erase(record.groups, maker.gid());
  if (spec.ttl > 0ns) start_ttl(record, spec.ttl, parts_.boot, parts_.clock);
  if (directory_.path_of(place_of(record)).size() > schema::kMaxPath)
    return failure(ErrorCode::invalid, "the path of endpoint " + record.id + " is longer than 256 bytes");
  record.number = parts_.ledger.next_id().value;
  record.principal = free_principal(record.number);
  MAPCAP_TRY_VOID(ledger::text_of(record));
  return record;
}

}  // namespace mapcap::broker
