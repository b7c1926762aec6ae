// The books of endpoints, and what follows for them from a start and from another policy. What is asked of them:
// endpoint_verbs.cpp.
#include "broker/door/endpoints.h"

#include <algorithm>
#include <utility>

#include "broker/books/quota_limits.h"
#include "policy/accounts.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using ledger::EndpointRecord;
using policy::Verb;

namespace {

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

std::string Endpoints::place_of(const EndpointRecord& record) {
  // No id begins with "@".
  return record.maker_administrator ? record.id : "@" + std::to_string(record.maker) + "/" + record.id;
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
  if (added.record.state != EndpointState::ended) by_name_[name_of(added.record)] = &added;
  know(added);
  return added;
}

void Endpoints::know(const One& one) {
  const policy::Subject& maker = one.authority->maker;
  parts_.quotas.know_endpoint(
      one.record.principal,
      {one.record.id, maker.uid(), maker.user(), maker.shared_groups(),
       limits_of(parts_.regions.policy(), parts_.pools, *one.authority, one.record.limits),
       one.record.state != EndpointState::active});
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

void Endpoints::take_sockets(std::vector<keeper::HeldMemory>& held) {
  std::erase_if(held, [this](keeper::HeldMemory& memory) {
    One* one = find(memory.region.value);
    if (one == nullptr || one->record.state != EndpointState::active) return false;
    one->inherited = std::move(memory.fd);
    return true;
  });
}

void Endpoints::start() {
  std::set<std::string> known;
  for (const auto& [name, one] : by_name_) {
    if (one->record.state == EndpointState::active) known.insert(place_of(one->record));
  }
  if (Result<void> swept = directory_.sweep(known); !swept)
    parts_.report.endpoint_unserved("", swept.error());
  for (const auto& [number, one] : all_) {
    if (one->record.state == EndpointState::ended) {
      one->over = true;
      spawn(forget_when_free(number));
    } else if (one->record.state == EndpointState::ending) {
      spawn(end_by_itself(number, "unfinished"));
    } else {
      Result<ListeningSocket> socket = directory_.listen(place_of(one->record), std::move(one->inherited));
      if (socket) {
        parts_.custody.guard_socket(RegionId{number}, socket.value().fd.borrow());
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

void Endpoints::leave() {
  for (const auto& [number, one] : all_) parts_.keeper.drop(RegionId{number});
}

/// A change of a record that nobody waits for: when it fails, the next start finds the same and does it again.
Task<void> Endpoints::record_in_background(EndpointRecord record) {
  (void)co_await parts_.ledger.put_endpoint(std::move(record));
}

void Endpoints::schedule(One& one) {
  if (one.record.ttl_ns == 0) return;
  one.ttl = parts_.loop.after(remaining(one.record, parts_.boot, parts_.clock),
                              [this, number = one.record.number] { spawn(end_by_itself(number, "ttl")); });
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

std::shared_ptr<const policy::Endpoint> Endpoints::authority(std::uint32_t principal) const {
  if (!policy::is_principal(principal)) return nullptr;
  for (const auto& [number, one] : all_) {
    if (one->authority->principal == principal) return one->authority;
  }
  return nullptr;
}

}  // namespace mapcap::broker
