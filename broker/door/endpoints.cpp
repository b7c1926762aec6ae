// What is asked of endpoints. How they end: endpoint_end.cpp.
#include "broker/door/endpoints.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/text.h"
#include "broker/books/quota_limits.h"
#include "broker/ledger/table/endpoint_layout.h"
#include "policy/accounts.h"
#include "schema/codec.h"
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

Failure no_such(const std::string& id) {
  return failure(ErrorCode::not_found, "there is no endpoint " + presentable(id, 80) + " of yours",
                 {{"endpoint", presentable(id, 80)}});
}

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

/// Encoded, at most: a text takes a pointer, its bytes, a NUL and what fills a word.
std::size_t size_of(const schema::EndpointInfo& info) {
  std::size_t bytes = schema::kEndpointInfoBytes;
  const auto add = [&bytes](const std::string& text) { bytes += text.size() + 24; };
  for (const auto* list : {&info.spec.names, &info.spec.pools, &info.spec.verbs}) {
    for (const std::string& text : *list) add(text);
  }
  for (const Label& label : info.spec.labels) {
    add(label.key);
    add(label.value);
  }
  return bytes;
}

/// Where a page begins: behind the id and number of the last of the page before.
using Position = std::pair<std::string, std::uint64_t>;

Result<Position> position_of(const std::string& cursor) {
  if (cursor.empty()) return Position{};
  const std::size_t colon = cursor.find(':');
  std::uint64_t number = 0;
  const char* end = cursor.data() + cursor.size();
  if (colon != std::string::npos) {
    const auto [stop, failed] = std::from_chars(cursor.data() + colon + 1, end, number);
    if (failed == std::errc{} && stop == end) return Position{cursor.substr(0, colon), number};
  }
  return failure(ErrorCode::invalid, "the cursor of endpoints is not one that this broker gave");
}

/// What no endpoint can be, whatever the policy.
Result<void> check_sense(const schema::EndpointSpec& spec) {
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

policy::Rule rule_of(const EndpointRecord& record) {
  policy::Rule rule;
  rule.where = "endpoint " + record.id;
  rule.subject.any = true;
  rule.names = record.names;
  rule.pools = record.pools;
  rule.rights = record.rights;
  for (const std::string& word : record.verbs) {
    // A word of a broker that knew more verbs: nothing is allowed by it.
    if (const Result<Verb> verb = policy::parse_verb(word))
      rule.verbs.set(static_cast<std::size_t>(verb.value()));
  }
  rule.verbs &= policy::verbs_of_endpoints();
  // No verb at all would mean every one.
  if (rule.verbs.none()) rule.verbs.set(static_cast<std::size_t>(Verb::list));
  return rule;
}

/// Who made it with the machine's power and who did so as a container's uid 0 are two.
bool made_by(const EndpointRecord& record, const policy::Subject& subject) {
  return record.maker == subject.uid() && record.maker_administrator == subject.administrator();
}

/// With the groups that he had when he made it and still has by the accounts: neither those that he left since, nor those
/// that his process had given up.
policy::Subject::Maker maker_of(const EndpointRecord& record) {
  const std::optional<policy::Account> account = policy::find_account(record.maker);
  if (!account) return {record.maker, record.maker_group, {}, "", record.maker_administrator};
  std::vector<std::uint32_t> groups = policy::groups_of(*account);
  std::erase_if(groups, [&](std::uint32_t gid) {
    return std::find(record.groups.begin(), record.groups.end(), gid) == record.groups.end();
  });
  return {record.maker, record.maker_group, std::move(groups), account->name, record.maker_administrator};
}

}  // namespace

Endpoints::Endpoints(Parts parts, EndpointDirectory directory)
    : parts_(parts), directory_(std::move(directory)) {
  parts_.regions.on_policy([this] { policy_changed(); });
}

// ---- the books

Endpoints::One* Endpoints::find(std::uint64_t number) {
  const auto found = all_.find(number);
  return found == all_.end() ? nullptr : found->second.get();
}

Endpoints::One& Endpoints::add(EndpointRecord record, policy::Subject::Maker maker) {
  auto one = std::make_unique<One>(parts_.loop);
  one->authority = std::make_shared<policy::Endpoint>(
      policy::Endpoint{record.id, record.principal, record.labels, rule_of(record),
                       policy::Subject::absent(std::move(maker)), record.state != EndpointState::active});
  one->authority->maker.set_lender(parts_.quotas.lender_of(record.maker));
  one->record = std::move(record);
  One& added = *one;
  all_.emplace(added.record.number, std::move(one));
  if (added.record.state != EndpointState::ended) by_id_[added.record.id] = &added;
  know(added);
  return added;
}

void Endpoints::know(const One& one) {
  const policy::Subject& maker = one.authority->maker;
  parts_.quotas.know_endpoint(
      one.record.principal,
      {one.record.id, maker.uid(), maker.user(), maker.shared_groups(),
       limits_of(parts_.regions.policy(), parts_.pools, *one.authority, one.record.limits)});
}

std::uint32_t Endpoints::free_principal(std::uint64_t number) const {
  const auto taken = [this](std::uint32_t principal) {
    const Amount used = parts_.quotas.used_by(principal);
    return parts_.quotas.endpoint(principal) != nullptr || strange_.contains(principal) || used.bytes > 0 ||
           used.regions > 0 || used.grants > 0 || used.connections > 0;
  };
  // The ledger's numbers are used once, so it takes a thousand million of them to come here again.
  auto offset = static_cast<std::uint32_t>(number % policy::kPrincipals);
  while (taken(policy::kFirstPrincipal + offset)) offset = (offset + 1) % policy::kPrincipals;
  return policy::kFirstPrincipal + offset;
}

void Endpoints::learn(std::vector<EndpointRecord> records, const std::vector<ledger::RegionRecord>& regions) {
  std::map<std::uint32_t, policy::Subject::Maker> makers;
  for (EndpointRecord& record : records) {
    auto known = makers.find(record.maker);
    if (known == makers.end()) known = makers.emplace(record.maker, maker_of(record)).first;
    policy::Subject::Maker maker = known->second;
    maker.administrator = record.maker_administrator;
    add(std::move(record), std::move(maker));
  }
  for (const ledger::RegionRecord& region : regions) {
    if (policy::is_principal(region.owner) && parts_.quotas.endpoint(region.owner) == nullptr)
      strange_.insert(region.owner);
  }
}

void Endpoints::start() {
  std::set<std::string> known;
  for (const auto& [id, one] : by_id_) {
    if (one->record.state == EndpointState::active) known.insert(id);
  }
  if (Result<void> swept = directory_.sweep(known); !swept)
    parts_.report.endpoint_unserved("", swept.error());
  for (const auto& [number, one] : all_) {
    if (one->record.state == EndpointState::ended) {
      spawn(forget_when_free(number));
    } else if (one->record.state == EndpointState::ending) {
      spawn(finish_in_background(number));
    } else {
      Result<ListeningSocket> socket = directory_.listen(one->record.id);
      if (socket) {
        parts_.listener.open(one->authority, std::move(socket.value()));
      } else {
        parts_.report.endpoint_unserved(one->record.id, socket.error());
      }
      const bool rebooted = one->record.boot != parts_.boot;
      schedule(*one);
      if (rebooted && one->record.ttl_ns > 0) spawn(record_in_background(one->record));
    }
  }
}

/// A change of a record that nobody waits for: when it fails, the next start finds the same and does it again.
Task<void> Endpoints::record_in_background(EndpointRecord record) {
  (void)co_await parts_.ledger.put_endpoint(std::move(record));
}

void Endpoints::schedule(One& one) {
  if (one.record.ttl_ns == 0) return;
  one.ttl = parts_.loop.after(remaining(one.record, parts_.boot, parts_.clock),
                              [this, number = one.record.number] { spawn(finish_in_background(number)); });
}

void Endpoints::policy_changed() {
  for (const auto& [number, one] : all_) {
    one->authority->maker.set_lender(parts_.quotas.lender_of(one->record.maker));
    know(*one);
  }
  spawn(look_at_makers());
}

/// Who left a group has less from now on, and so have his endpoints.
Task<void> Endpoints::look_at_makers() {
  std::map<std::uint32_t, EndpointRecord> makers;
  for (const auto& [number, one] : all_) makers.try_emplace(one->record.maker, one->record);
  for (auto& [uid, record] : makers) {
    const auto ask = [&asked = record] { return maker_of(asked); };
    const policy::Subject::Maker found = co_await parts_.accounts.run_for(uid, ask);
    for (const auto& [number, one] : all_) {
      if (one->record.maker != uid) continue;
      policy::Subject::Maker maker = found;
      maker.administrator = one->record.maker_administrator;
      one->authority->maker = policy::Subject::absent(std::move(maker));
      one->authority->maker.set_lender(parts_.quotas.lender_of(uid));
      know(*one);
    }
  }
}

// ---- the verbs

Result<void> Endpoints::authorize(const Caller& caller) const {
  policy::Action action;
  action.verb = Verb::endpoint;
  MAPCAP_TRY(const policy::Permit permit, parts_.regions.policy().authorize(caller.subject, action));
  caller.allowed_by(permit);
  return ok();
}

std::shared_ptr<const policy::Endpoint> Endpoints::authority(std::uint32_t principal) const {
  if (!policy::is_principal(principal)) return nullptr;
  for (const auto& [number, one] : all_) {
    if (one->authority->principal == principal) return one->authority;
  }
  return nullptr;
}

Result<Endpoints::One*> Endpoints::find_for(const Caller& caller, const std::string& id) {
  MAPCAP_TRY_VOID(authorize(caller));
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return no_such(id);
  One* one = found->second;
  if (!made_by(one->record, caller.subject) && !caller.subject.administrator()) return no_such(id);
  return one;
}

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

Result<EndpointRecord> Endpoints::plan(const Caller& caller, schema::EndpointSpec spec) {
  const policy::Subject& maker = caller.subject;
  MAPCAP_TRY_VOID(authorize(caller));
  MAPCAP_TRY_VOID(check_sense(spec));
  for (const std::string& pool : spec.pools) {
    MAPCAP_TRY_VOID(parts_.regions.policy().find_pool(pool));
  }
  if (directory_.path_of(spec.id).size() > schema::kMaxPath)
    return failure(ErrorCode::invalid, "the path of endpoint " + spec.id + " is longer than 256 bytes");
  if (by_id_.contains(spec.id) || making_.contains(spec.id)) {
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
  record.number = parts_.ledger.next_id().value;
  record.principal = free_principal(record.number);
  MAPCAP_TRY_VOID(ledger::text_of(record));
  return record;
}

Task<Result<Delivery>> Endpoints::create(Caller caller, schema::EndpointCreate ask) {
  MAPCAP_CO_TRY(EndpointRecord record, plan(caller, std::move(ask.spec)));
  const std::string id = record.id;
  // Whoever still has the directory of an earlier one of that id reaches nothing of this one by it.
  MAPCAP_CO_TRY_VOID(directory_.remove(id));
  MAPCAP_CO_TRY(ListeningSocket socket, directory_.listen(id));
  const auto making = making_.insert(id).first;
  policy::Subject::Maker maker{record.maker, record.maker_group, caller.subject.groups(),
                               caller.subject.user(), record.maker_administrator};
  const Result<void> recorded = co_await parts_.ledger.put_endpoint(record);
  making_.erase(making);
  if (!recorded) {
    (void)directory_.remove(id);
    co_return recorded.error();
  }
  One& one = add(std::move(record), std::move(maker));
  parts_.listener.open(one.authority, std::move(socket));
  schedule(one);
  Delivery delivery;
  delivery.body = schema::EndpointTold{describe(one), false};
  co_return delivery;
}

Task<Result<Delivery>> Endpoints::list(Caller caller, schema::EndpointList ask) {
  MAPCAP_CO_TRY_VOID(authorize(caller));
  MAPCAP_CO_TRY(const Position from, position_of(ask.cursor));
  std::map<Position, const One*> own;
  for (const auto& [number, one] : all_) {
    if (made_by(one->record, caller.subject) || caller.subject.administrator())
      own[{one->record.id, number}] = one.get();
  }
  schema::EndpointListing listing;
  std::size_t room = schema::kMaxPacket - 1024;
  std::string last;
  for (auto at = own.upper_bound(from); at != own.end(); ++at) {
    schema::EndpointInfo info = describe(*at->second);
    const std::size_t takes = size_of(info);
    if (takes > room) {
      listing.next = last;
      break;
    }
    room -= takes;
    last = at->first.first + ":" + std::to_string(at->first.second);
    listing.endpoints.push_back(std::move(info));
  }
  Delivery delivery;
  delivery.body = std::move(listing);
  co_return delivery;
}

Task<Result<Delivery>> Endpoints::show(Caller caller, schema::EndpointShow ask) {
  MAPCAP_CO_TRY(const One* one, find_for(caller, ask.id));
  Delivery delivery;
  schema::EndpointTold told{describe(*one), ask.directory};
  if (ask.directory) {
    if (one->record.state != EndpointState::active)
      co_return failure(ErrorCode::busy, "endpoint " + one->record.id + " is ending");
    const auto mount = [this, id = one->record.id] { return directory_.mount_of(id); };
    MAPCAP_CO_TRY(delivery.fd, co_await parts_.accounts.run(mount));
  }
  delivery.body = std::move(told);
  co_return delivery;
}

Task<Result<Delivery>> Endpoints::renew(Caller caller, schema::EndpointRenew ask) {
  MAPCAP_CO_TRY(One * one, find_for(caller, ask.id));
  const std::uint64_t number = one->record.number;
  if (one->record.state != EndpointState::active)
    co_return failure(ErrorCode::busy, "endpoint " + ask.id + " is ending");
  if (one->record.ttl_ns == 0)
    co_return failure(ErrorCode::invalid,
                      "endpoint " + ask.id + " does not end by time: only a ttl can be renewed");
  if (ask.ttl < 1s) co_return failure(ErrorCode::invalid, "a ttl is at least 1 s");
  EndpointRecord renewed = one->record;
  start_ttl(renewed, ask.ttl, parts_.boot, parts_.clock);
  MAPCAP_CO_TRY_VOID(co_await parts_.ledger.put_endpoint(renewed));
  one = find(number);
  if (one == nullptr || one->record.state != EndpointState::active)
    co_return failure(ErrorCode::busy, "endpoint " + ask.id + " ended meanwhile");
  one->record = std::move(renewed);
  schedule(*one);
  Delivery delivery;
  delivery.body = schema::EndpointTold{describe(*one), false};
  co_return delivery;
}

schema::EndpointInfo Endpoints::describe(const One& one) const {
  const EndpointRecord& record = one.record;
  schema::EndpointInfo info;
  info.spec = {record.id,
               record.names,
               record.pools,
               record.verbs,
               record.rights,
               record.limits,
               std::chrono::nanoseconds(record.ttl_ns),
               record.on_end,
               record.labels};
  info.maker = record.maker;
  info.principal = record.principal;
  info.state = record.state;
  info.directory = directory_.path_of(record.id);
  info.created_unix_ns = record.created_unix_ns;
  if (record.ttl_ns > 0)
    info.remaining_ns = std::max<std::int64_t>(record.expires_boot_ns - parts_.clock.boot_ns(), 0);
  const Amount used = parts_.quotas.used_by(record.principal);
  info.bytes = used.bytes;
  info.regions = used.regions;
  info.grants = used.grants;
  info.connections = used.connections;
  return info;
}

}  // namespace mapcap::broker
