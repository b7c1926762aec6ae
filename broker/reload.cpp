#include "broker/reload.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/machine/memory.h"
#include "base/sha256.h"
#include "policy/accounts.h"
#include "policy/changes.h"
#include "policy/machine_share.h"

namespace mapcap::broker {

using policy::Problem;
using policy::Severity;

namespace {

constexpr const char* kBuiltIn = "default.toml";
/// What of an outcome goes into a packet beside everything else.
constexpr std::size_t kRoom = 48U << 10U;
/// Lines of the log about one reload.
constexpr std::size_t kLogged = 100;

PolicyProblem told(const Problem& problem) {
  return {problem.at.line, problem.at.column, problem.severity == Severity::warning, problem.message};
}

std::size_t room_for(const std::string& text) {
  return std::min(text.size(), schema::kMaxPolicyLine) + 24;
}

/// Leaves off what no packet would have room for, and says how much that is.
template <typename Entry, typename RoomFor>
std::uint32_t cut(std::vector<Entry>& entries, std::size_t& room, RoomFor room_for_one) {
  std::size_t kept = 0;
  while (kept < entries.size()) {
    const std::size_t wanted = room_for_one(entries[kept]);
    if (wanted > room) break;
    room -= wanted;
    ++kept;
  }
  const auto left = static_cast<std::uint32_t>(entries.size() - kept);
  entries.resize(kept);
  return left;
}

void fit(ReloadOutcome& outcome) {
  std::size_t room = kRoom;
  outcome.more = cut(outcome.problems, room, [](const auto& one) { return 32 + room_for(one.message); });
  outcome.more += cut(outcome.changes, room, [](const auto& one) {
    return 32 + room_for(one.what) + room_for(one.whom) + room_for(one.place) + room_for(one.detail);
  });
}

/// What no rule can be loaded with.
std::vector<Problem> not_in_service(const policy::BrokerSettings& now, const policy::BrokerSettings& next) {
  std::vector<Problem> problems;
  const auto fixed = [&](bool same, const policy::Place& at, const char* key) {
    if (!same)
      problems.push_back({Severity::error, at.position,
                          std::string("[broker]: ") + key + " changes only with a restart of mapcapd"});
  };
  fixed(now.socket == next.socket, next.socket_at, "socket");
  fixed(now.state == next.state, next.state_at, "state");
  return problems;
}

}  // namespace

Reload::Reload(Parts parts, std::string path, std::string text, std::function<Loaded()> load)
    : parts_(std::move(parts)), path_(std::move(path)), load_(std::move(load)), finished_(parts_.loop) {
  note_loaded(std::move(text), "start");
}

void Reload::ask() {
  again_ = true;
  if (std::exchange(asked_, true)) return;
  spawn(answer_signals());
}

Task<void> Reload::answer_signals() {
  while (std::exchange(again_, false)) (void)co_await reload("SIGHUP");
  asked_ = false;
}

Task<Result<ReloadOutcome>> Reload::reload(std::string by) {
  while (running_) co_await finished_.wait();
  running_ = true;
  Result<ReloadOutcome> outcome = co_await once(std::move(by));
  running_ = false;
  finished_.notify();
  co_return outcome;
}

Reload::Loaded Reload::load() const {
  Loaded loaded;
  Result<std::string> text = path_.empty()        ? std::string(policy::default_text())
                             : parts_.read_policy ? parts_.read_policy()
                                                  : policy::read_file(path_);
  if (!text) {
    loaded.unreadable = text.error();
    return loaded;
  }
  loaded.text = std::move(text.value());
  loaded.examined =
      policy::examine_text(loaded.text, path_.empty() ? kBuiltIn : path_, policy::system_accounts());
  loaded.subordinates = policy::Subordinates::of_machine();
  return loaded;
}

bool Reload::judge(ReloadOutcome& outcome, const PoolChanges::Problems& problems) const {
  for (const Problem& problem : problems) outcome.problems.push_back(told(problem));
  return std::all_of(outcome.problems.begin(), outcome.problems.end(),
                     [](const PolicyProblem& one) { return one.warning; });
}

Task<Result<ReloadOutcome>> Reload::once(std::string by) {
  const auto read = [this] { return load_ ? load_() : load(); };
  Loaded loaded = co_await parts_.accounts.run(read);
  if (loaded.unreadable) {
    parts_.report.policy_refused(*loaded.unreadable);
    co_return *loaded.unreadable;
  }
  ReloadOutcome outcome;
  outcome.file = in_force_.file;
  const auto refused = [&] {
    report(outcome, by);
    fit(outcome);
    return outcome;
  };
  if (!judge(outcome, loaded.examined.problems)) co_return refused();

  const std::shared_ptr<const policy::Policy> now = parts_.regions.shared_policy();
  const std::shared_ptr<const policy::Policy> next = loaded.examined.policy;
  PoolChanges pools(*now, next, parts_.pools, parts_.may_kill);
  const auto regions_in = [this](const std::string& pool) { return parts_.regions.regions_in(pool); };
  PoolChanges::Problems problems = not_in_service(now->broker(), next->broker());
  const auto add = [&problems](PoolChanges::Problems more) {
    problems.insert(problems.end(), std::make_move_iterator(more.begin()),
                    std::make_move_iterator(more.end()));
  };
  if (const auto beyond = policy::beyond_machine(next->pools(), machine::total_memory())) add({*beyond});
  add(pools.not_in_service());
  add(pools.in_the_way(parts_.quotas, regions_in));
  if (!judge(outcome, problems)) co_return refused();

  // Not known before: the file could have said anything.
  const auto prepare = [&, recorded = std::make_shared<const pool::Recorded>(parts_.regions.recorded())] {
    return pools.prepare(parts_.open_pool, *recorded);
  };
  if (!judge(outcome, co_await parts_.worker.run(prepare))) co_return refused();
  // And this may have changed meanwhile.
  if (!judge(outcome, pools.in_the_way(parts_.quotas, regions_in))) co_return refused();
  outcome.in_force = true;
  outcome.changes = policy::changes_between(*now, *next);
  commit(std::move(loaded), pools, by);
  report(outcome, by);
  fit(outcome);
  co_return outcome;
}

/// Nothing in here can fail, or waits.
void Reload::commit(Loaded loaded, PoolChanges& pools, const std::string& by) {
  const policy::BrokerSettings& broker = loaded.examined.policy->broker();
  auto gone = std::make_shared<ServedPools>(pools.commit(parts_.quotas));
  if (!gone->empty()) parts_.scrubber.submit([gone = std::move(gone)]() mutable { gone->clear(); });
  for (const auto& [pool, error] : pools.leftovers()) parts_.report.leftovers_stay(pool, error);
  parts_.limit_connections(broker);
  parts_.keeper.set_issue_deadline(
      std::chrono::duration_cast<std::chrono::milliseconds>(broker.keeper_deadline));
  parts_.regions.set_subordinates(loaded.subordinates);
  parts_.regions.set_policy(std::move(loaded.examined.policy));
  note_loaded(std::move(loaded.text), by);
}

void Reload::note_loaded(std::string text, std::string by) {
  const policy::Policy& policy = parts_.regions.policy();
  text_ = std::move(text);
  in_force_.file = path_.empty() ? kBuiltIn : path_;
  in_force_.sha256 = sha256(text_);
  in_force_.loaded_unix = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  in_force_.loaded_by = std::move(by);
  in_force_.pools = static_cast<std::uint32_t>(policy.pools().size());
  in_force_.rules = static_cast<std::uint32_t>(policy.rules().size());
  in_force_.quotas = static_cast<std::uint32_t>(policy.quotas().size());
}

schema::PolicyPiece Reload::in_force(std::uint64_t offset) const {
  schema::PolicyPiece piece{in_force_, text_.size(), 0};
  piece.offset = std::min<std::uint64_t>(offset, text_.size());
  piece.text = text_.substr(piece.offset, schema::kPolicyPiece);
  return piece;
}

Task<policy::Subject> Reload::somebody(std::uint32_t uid) {
  const auto look_up = [uid] {
    const std::optional<policy::Account> account = policy::find_account(uid);
    if (!account) return policy::Subject::for_explanation(uid, uid, {}, "");
    return policy::Subject::for_explanation(uid, account->gid, policy::groups_of(*account), account->name);
  };
  policy::Subject subject = co_await parts_.accounts.run_for(uid, look_up);
  subject.set_lender(parts_.quotas.lender_of(uid));
  co_return subject;
}

void Reload::report(const ReloadOutcome& outcome, const std::string& by) {
  std::size_t lines = 0;
  if (!outcome.in_force) {
    for (const PolicyProblem& problem : outcome.problems) {
      if (problem.warning) continue;
      if (lines++ < kLogged) {
        parts_.report.policy_refused(
            failure(ErrorCode::invalid, outcome.file + ":" + std::to_string(problem.line) + ":" +
                                            std::to_string(problem.column) + ": " + problem.message));
      }
    }
    if (lines > kLogged) {
      parts_.report.policy_refused(
          failure(ErrorCode::invalid, "and " + std::to_string(lines - kLogged) + " more problems"));
    }
    return;
  }
  std::string changes;
  for (const PolicyChange& change : outcome.changes) {
    if (lines++ == kLogged) break;
    changes +=
        "; " + change.what + ": " + change.whom + (change.place.empty() ? "" : " (" + change.place + ")");
  }
  const std::size_t count = outcome.changes.size();
  parts_.report.policy_reloaded(
      outcome.file + ", asked by " + by + ": " +
      (count == 0 ? "nothing has changed" : std::to_string(count) + (count == 1 ? " change" : " changes")) +
      changes + (count > kLogged ? "; ..." : ""));
}

}  // namespace mapcap::broker
