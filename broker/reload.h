// The policy file, read again: by SIGHUP, or by an administrator who is answered. A new policy takes effect as a
// whole, or not at all. Also who knows which one is in force, and since when.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "broker/books/pools.h"
#include "broker/keeper/keeper.h"
#include "broker/pool_changes.h"
#include "broker/regions/policy_source.h"
#include "broker/regions/regions.h"
#include "broker/report/report.h"
#include "broker/wait/event.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"
#include "policy/load/loader.h"
#include "policy/policy.h"
#include "policy/subordinates.h"

namespace mapcap::broker {

/// Rules, quotas, timings and limits change; pools are added, get another capacity, or go when nothing is in
/// them. What takes a restart is refused by its name. Reports either way.
class Reload final : public PolicySource {
 public:
  struct Parts {
    Loop& loop;
    Worker& accounts;  ///< Reads the file and asks for its names, for as long as a name service takes.
    Worker& worker;    ///< Opens pools.
    Worker& scrubber;  ///< Closes them.
    Regions& regions;
    Quotas& quotas;
    keeper::Keeper& keeper;
    Report& report;
    ServedPools& pools;
    PoolChanges::OpenPool open_pool;
    std::function<void(const policy::BrokerSettings&)> limit_connections;
    bool may_kill = false;  ///< The broker has kept CAP_KILL.
    /// Reads the policy file, for a broker that cannot; empty: policy::read_file.
    std::function<Result<std::string>()> read_policy{};
  };
  struct Loaded {
    std::string text;
    policy::Examined examined;
    policy::Subordinates subordinates;
    std::optional<Failure> unreadable;
  };
  /// `path`: of the policy file; empty: the built-in default. `text`: of the policy that regions were made with.
  Reload(Parts parts, std::string path, std::string text)
      : Reload(std::move(parts), std::move(path), std::move(text), {}) {}
  /// `load`: on a thread.
  Reload(Parts parts, std::string path, std::string text, std::function<Loaded()> load);
  Reload(const Reload&) = delete;
  Reload& operator=(const Reload&) = delete;

  /// For SIGHUP: returns at once. While one is under way, another follows it: the file may have changed behind
  /// its back.
  void ask();

  Task<Result<ReloadOutcome>> reload(std::string by) override;
  [[nodiscard]] schema::PolicyPiece in_force(std::uint64_t offset) const override;
  Task<policy::Subject> somebody(std::uint32_t uid) override;

 private:
  [[nodiscard]] Loaded load() const;
  Task<void> answer_signals();
  Task<Result<ReloadOutcome>> once(std::string by);
  /// True when there is none to refuse it for.
  bool judge(ReloadOutcome& outcome, const PoolChanges::Problems& problems) const;
  void commit(Loaded loaded, PoolChanges& pools, const std::string& by);
  void note_loaded(std::string text, std::string by);
  void report(const ReloadOutcome& outcome, const std::string& by);

  Parts parts_;
  std::string path_;
  std::function<Loaded()> load_;
  Event finished_;
  bool running_ = false;
  bool asked_ = false;
  bool again_ = false;
  std::string text_;
  PolicyInForce in_force_;  ///< But for its text.
};

}  // namespace mapcap::broker
