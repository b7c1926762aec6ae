#include "broker/door/audited.h"

#include <algorithm>
#include <variant>

#include "base/words.h"
#include "policy/endpoint.h"

namespace mapcap::broker {

namespace {

/// "any user in pool dram", "group 1000"
std::string said(const QuotaSlot& slot) {
  std::string text = slot.subject == SubjectKind::any
                         ? "any user"
                         : (slot.subject == SubjectKind::user ? "user " : "group ") + std::to_string(slot.id);
  return slot.pool.empty() ? text : text + " in pool " + slot.pool;
}

struct Describe {
  using Record = std::optional<Audited>;
  Record operator()(const schema::Hello&) const { return std::nullopt; }
  Record operator()(const schema::Create& ask) const { return Audited{"create", ask.name, true}; }
  Record operator()(const schema::Open& ask) const { return Audited{"open", ask.name, true}; }
  Record operator()(const schema::List& ask) const { return Audited{"list", ask.glob, false}; }
  Record operator()(const schema::Show& ask) const { return Audited{"show", ask.name, false}; }
  Record operator()(const schema::Renew& ask) const { return Audited{"renew", ask.name, true}; }
  Record operator()(const schema::Revoke& ask) const { return Audited{"revoke", ask.name, true}; }
  Record operator()(const schema::Publish& ask) const { return Audited{"publish", ask.name, true}; }
  Record operator()(const schema::Pools&) const { return Audited{"pools", "", false}; }
  Record operator()(const schema::Quota&) const { return Audited{"quota", "", false}; }
  Record operator()(const schema::QuotaSet& ask) const { return Audited{"quota-set", said(ask.slot), true}; }
  Record operator()(const schema::QuotaClear& ask) const {
    return Audited{"quota-clear", said(ask.slot), true};
  }
  Record operator()(const schema::CloneFd&) const { return Audited{"clone", "", true}; }
  Record operator()(const schema::AskClonePort&) const { return Audited{"clone", "", false}; }
  Record operator()(const schema::Goodbye&) const { return std::nullopt; }
  Record operator()(const schema::Shutdown& ask) const {
    return Audited{"shutdown", ask.end_regions ? "all regions" : "", !ask.only_tell};
  }
  Record operator()(const schema::AskStatus&) const { return Audited{"status", "", false}; }
  Record operator()(const schema::Reload&) const { return Audited{"reload", "", true}; }
  Record operator()(const schema::PolicyShow&) const { return Audited{"policy", "", false}; }
  Record operator()(const schema::PolicyExplain& ask) const {
    return Audited{"policy", ask.region.name, false};
  }
  Record operator()(const schema::EndpointCreate& ask) const {
    return Audited{"endpoint-create", ask.spec.id, true};
  }
  Record operator()(const schema::EndpointList&) const { return Audited{"endpoint-list", "", false}; }
  Record operator()(const schema::EndpointShow& ask) const {
    return Audited{"endpoint-show", ask.id, ask.directory};
  }
  Record operator()(const schema::EndpointRenew& ask) const {
    return Audited{"endpoint-renew", ask.id, true};
  }
  Record operator()(const schema::EndpointEnd& ask) const { return Audited{"endpoint-end", ask.id, true}; }
};

std::string detail_of(const Failure& refusal, std::string_view key) {
  const auto found = std::find_if(refusal.details.begin(), refusal.details.end(),
                                  [&](const Detail& one) { return one.key == key; });
  return found == refusal.details.end() ? "" : found->value;
}

Verdict verdict_of(const Failure& refusal, const Judged& judged) {
  if (judged.hidden || refusal.code == ErrorCode::denied) return Verdict::denied;
  const bool limit = refusal.code == ErrorCode::over_quota || refusal.code == ErrorCode::pool_full;
  return limit ? Verdict::over_quota : Verdict::failed;
}

}  // namespace

std::optional<Audited> audited(const schema::RequestBody& request) {
  return std::visit(Describe{}, request);
}

Actor actor_for(const policy::Endpoint& endpoint, std::uint32_t account) {
  Actor who;
  who.account = account;
  who.maker = endpoint.maker.user();
  who.maker_uid = endpoint.maker.uid();
  return who;
}

Actor actor_of(const Session& session) {
  const policy::Subject& subject = session.subject();
  const policy::PeerLabel& label = subject.label();
  Actor who;
  if (const policy::Endpoint* endpoint = subject.endpoint()) {
    who = actor_for(*endpoint, session.share());
    who.endpoint = endpoint->id;
    who.peer_uid = session.peer_uid();
  }
  who.account = session.share();  // Whoever makes many endpoints is still one.
  who.uid = subject.uid();
  who.user = subject.user();
  who.pid = subject.pid();
  who.program = label.program;
  who.unit = label.unit;
  who.container = label.container;
  who.cgroup = policy::bare_cgroup(label);
  return who;
}

Actor actor_of(const policy::Subject::Ids& peer, std::uint32_t account, const policy::Endpoint* endpoint) {
  Actor who;
  if (endpoint != nullptr) {
    who = actor_for(*endpoint, account);
    who.endpoint = endpoint->id;
    who.peer_uid = peer.uid;
  }
  who.account = account;
  who.uid = endpoint != nullptr ? endpoint->principal : peer.uid;
  who.user = endpoint != nullptr ? endpoint->id : std::to_string(peer.uid);
  who.pid = peer.pid;
  return who;
}

void judge_record(AuditRecord& record, const Judged& judged, const Failure* refusal) {
  if (refusal == nullptr) {
    record.rule = judged.rule;
    return;
  }
  record.verdict = verdict_of(*refusal, judged);
  record.rule = judged.hidden ? "hidden" : detail_of(*refusal, "rule");
  record.why = refusal->sentence;
}

}  // namespace mapcap::broker
