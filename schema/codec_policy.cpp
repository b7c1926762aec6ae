// What is said about policies to packets and back.
#include "schema/wire.h"

namespace mapcap::schema::codec {

namespace {

using codec::read;
using codec::write;

constexpr std::size_t kMaxHash = 64;

Result<std::string> read_line(capnp::Text::Reader text, std::string_view field) {
  return read_text(text, field, kMaxPolicyLine);
}

/// A file may hold anything, and be called anything.
template <typename Set>
void write_line(const std::string& text, Set set) {
  const std::string line = presentable(text, kMaxPolicyLine);
  set(as_text(line));
}

Result<PolicyProblem> read(wire::Reloaded::Problem::Reader reader) {
  PolicyProblem problem{reader.getLine(), reader.getColumn(), reader.getWarning(), {}};
  MAPCAP_TRY(problem.message, read_line(reader.getMessage(), "problem.message"));
  return problem;
}
void write(const PolicyProblem& problem, wire::Reloaded::Problem::Builder builder) {
  builder.setLine(problem.line);
  builder.setColumn(problem.column);
  builder.setWarning(problem.warning);
  write_line(problem.message, [&](auto text) { builder.setMessage(text); });
}

Result<PolicyChange> read(wire::Reloaded::Change::Reader reader) {
  PolicyChange change;
  MAPCAP_TRY(change.what, read_line(reader.getWhat(), "change.what"));
  MAPCAP_TRY(change.whom, read_line(reader.getWhom(), "change.whom"));
  MAPCAP_TRY(change.place, read_line(reader.getPlace(), "change.place"));
  MAPCAP_TRY(change.detail, read_line(reader.getDetail(), "change.detail"));
  return change;
}
void write(const PolicyChange& change, wire::Reloaded::Change::Builder builder) {
  write_line(change.what, [&](auto text) { builder.setWhat(text); });
  write_line(change.whom, [&](auto text) { builder.setWhom(text); });
  write_line(change.place, [&](auto text) { builder.setPlace(text); });
  write_line(change.detail, [&](auto text) { builder.setDetail(text); });
}

Result<RuleSaid> read(wire::Explained::RuleSaid::Reader reader) {
  RuleSaid rule;
  MAPCAP_TRY(rule.place, read_line(reader.getPlace(), "rule.place"));
  rule.denies = reader.getDenies();
  MAPCAP_TRY(rule.subject, read_line(reader.getSubject(), "rule.subject"));
  rule.applies = reader.getApplies();
  MAPCAP_TRY(rule.why, read_line(reader.getWhy(), "rule.why"));
  return rule;
}
void write(const RuleSaid& rule, wire::Explained::RuleSaid::Builder builder) {
  write_line(rule.place, [&](auto text) { builder.setPlace(text); });
  builder.setDenies(rule.denies);
  write_line(rule.subject, [&](auto text) { builder.setSubject(text); });
  builder.setApplies(rule.applies);
  write_line(rule.why, [&](auto text) { builder.setWhy(text); });
}

}  // namespace

Result<ReloadOutcome> read(wire::Reloaded::Reader reader) {
  ReloadOutcome reloaded;
  MAPCAP_TRY(reloaded.file, read_line(reader.getFile(), "reloaded.file"));
  reloaded.in_force = reader.getInForce();
  MAPCAP_TRY(reloaded.problems,
             read_list<PolicyProblem>(reader.getProblems(), [](auto one) { return read(one); }));
  MAPCAP_TRY(reloaded.changes,
             read_list<PolicyChange>(reader.getChanges(), [](auto one) { return read(one); }));
  reloaded.more = reader.getMore();
  return reloaded;
}
void write(const ReloadOutcome& reloaded, wire::Reloaded::Builder builder) {
  write_line(reloaded.file, [&](auto text) { builder.setFile(text); });
  builder.setInForce(reloaded.in_force);
  write_list(reloaded.problems, builder.initProblems(count_of(reloaded.problems)),
             [](const auto& one, auto to) { write(one, to); });
  write_list(reloaded.changes, builder.initChanges(count_of(reloaded.changes)),
             [](const auto& one, auto to) { write(one, to); });
  builder.setMore(reloaded.more);
}

Result<PolicyPiece> read(wire::PolicyInForce::Reader reader) {
  PolicyPiece policy;
  MAPCAP_TRY(policy.file, read_line(reader.getFile(), "policy.file"));
  MAPCAP_TRY(policy.sha256, read_text(reader.getSha256(), "policy.sha256", kMaxHash));
  policy.loaded_unix = std::chrono::nanoseconds(reader.getLoadedUnixNs());
  MAPCAP_TRY(policy.loaded_by, read_line(reader.getLoadedBy(), "policy.loadedBy"));
  policy.pools = reader.getPools();
  policy.rules = reader.getRules();
  policy.quotas = reader.getQuotas();
  policy.size = reader.getSize();
  policy.offset = reader.getOffset();
  const capnp::Data::Reader text = reader.getText();
  policy.text.assign(text.begin(), text.end());
  return policy;
}
void write(const PolicyPiece& policy, wire::PolicyInForce::Builder builder) {
  write_line(policy.file, [&](auto text) { builder.setFile(text); });
  builder.setSha256(as_text(policy.sha256));
  builder.setLoadedUnixNs(policy.loaded_unix.count());
  write_line(policy.loaded_by, [&](auto text) { builder.setLoadedBy(text); });
  builder.setPools(policy.pools);
  builder.setRules(policy.rules);
  builder.setQuotas(policy.quotas);
  builder.setSize(policy.size);
  builder.setOffset(policy.offset);
  builder.setText(as_data(policy.text));
}

Result<Explained> read(wire::Explained::Reader reader) {
  Explained explained;
  const auto verdict = reader.getVerdict();
  if (verdict.isRefused()) {
    MAPCAP_TRY_VOID(read_into(explained.refusal.emplace(), verdict.getRefused()));
  }
  MAPCAP_TRY(explained.policy, read_line(reader.getPolicy(), "explained.policy"));
  MAPCAP_TRY(explained.user, read_line(reader.getUser(), "explained.user"));
  MAPCAP_TRY(explained.rule, read_line(reader.getRule(), "explained.rule"));
  const auto judged = reader.getJudged();
  if (judged.isRegion()) {
    MAPCAP_TRY(explained.judged, read(judged.getRegion()));
  }
  MAPCAP_TRY(explained.rules, read_list<RuleSaid>(reader.getRules(), [](auto one) { return read(one); }));
  explained.more = reader.getMore();
  MAPCAP_TRY(explained.elsewhere, read_line(reader.getElsewhere(), "explained.elsewhere"));
  return explained;
}
void write(const Explained& explained, wire::Explained::Builder builder) {
  if (explained.refusal) {
    write(*explained.refusal, builder.getVerdict().initRefused());
  } else {
    builder.getVerdict().setAllowed();
  }
  write_line(explained.policy, [&](auto text) { builder.setPolicy(text); });
  write_line(explained.user, [&](auto text) { builder.setUser(text); });
  write_line(explained.rule, [&](auto text) { builder.setRule(text); });
  if (explained.judged) {
    write(*explained.judged, builder.getJudged().initRegion());
  } else {
    builder.getJudged().setNothing();
  }
  write_list(explained.rules, builder.initRules(count_of(explained.rules)),
             [](const auto& one, auto to) { write(one, to); });
  builder.setMore(explained.more);
  write_line(explained.elsewhere, [&](auto text) { builder.setElsewhere(text); });
}

}  // namespace mapcap::schema::codec
