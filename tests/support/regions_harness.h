// The verbs on regions in this process: a real ledger, pool and directory, confined by seals alone, and a
// keeper that is only asked to hold memory. What clients are told is kept.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker/confine/sealed.h"
#include "broker/pool/memory.h"
#include "broker/regions/regions.h"
#include "policy/load/loader.h"
#include "tests/support/kernel_time.h"
#include "tests/support/loop_harness.h"
#include "tests/support/watched_pool.h"

namespace mapcap::test {

/// Holds nothing and tells nothing.
class IdleKeeper final : public broker::keeper::Keeper {
 public:
  void attach(broker::Loop&) override {}
  [[nodiscard]] bool adopted() const override { return false; }
  [[nodiscard]] bool knows_earlier_grants() const override { return false; }
  [[nodiscard]] int pid() const override { return 0; }
  [[nodiscard]] broker::keeper::KeeperHealth health() const override { return {}; }
  std::vector<broker::keeper::HeldMemory> take_held() override { return {}; }
  std::vector<broker::confine::LiveGrant> take_live_grants() override { return {}; }
  broker::Task<Result<void>> hold(RegionId, BorrowedFd) override {
    if (!refuses) co_return ok();
    co_return failure(ErrorCode::exhausted, "a test asks it to refuse");
  }
  void guard(RegionId, BorrowedFd) override {}
  void guard_socket(RegionId, BorrowedFd) override {}
  void drop(RegionId) override {}
  [[nodiscard]] std::vector<RegionId> unheld(std::size_t) const override { return {}; }
  broker::Task<bool> settle(std::chrono::nanoseconds) override { co_return true; }
  broker::Task<bool> prepare_to_leave(std::chrono::nanoseconds) override { co_return true; }
  void on_release(std::function<void(broker::confine::GrantId)>, std::function<void()>) override {}
  void on_ended(std::function<void(const std::string&)>) override {}
  void on_replaced(std::function<void()>) override {}
  broker::confine::Confiner& clone() override { return *confiner_; }
  [[nodiscard]] std::string clone_unavailable() const override { return "a test asks for none"; }
  bool leave() override { return false; }
  void shut_down() override {}
  void set_issue_deadline(std::chrono::milliseconds given) override { deadline = given; }

  bool refuses = false;
  std::chrono::milliseconds deadline{0};

 private:
  std::unique_ptr<broker::confine::Confiner> confiner_ = broker::confine::make_sealed();
};

/// Sessions that live until they are ended, and what they were told.
class ToldSessions final : public broker::Notifier {
 public:
  using Told = std::pair<broker::SessionId, schema::NoticeKind>;

  void notify(const broker::Region& region, const schema::Notice& notice) override {
    for (const broker::SessionId watcher : region.watchers) notify(watcher, notice);
  }
  void notify(broker::SessionId session, const schema::Notice& notice) override {
    if (connected(session)) told.emplace_back(session, notice.kind);
  }
  [[nodiscard]] bool connected(broker::SessionId session) const override { return !ended.contains(session); }

  std::set<broker::SessionId> ended;
  std::vector<Told> told;
};

class RegionsTest : public testing::Test {
 protected:
  using Confiner = std::unique_ptr<broker::confine::Confiner>;
  using AnyLedger = std::unique_ptr<broker::ledger::Ledger>;

  RegionsTest() : RegionsTest(broker::confine::make_sealed()) {}
  /// `wrap` stands before the ledger.
  explicit RegionsTest(Confiner confiner, const std::function<AnyLedger(AnyLedger)>& wrap = {})
      : confiner_(std::move(confiner)) {
    std::string pattern = testing::TempDir() + "regions-XXXXXX";
    directory_path_ = ::mkdtemp(pattern.data());
    ledger_ =
        std::move(broker::ledger::Ledger::open(directory_path_ + "/ledger", loop(), harness_.worker).value());
    if (wrap) ledger_ = wrap(std::move(ledger_));
    broker::pool::MemoryOptions memory;
    memory.name = "dram";
    memory.capacity = {64U << 20U};
    memory.seals = {SealKind::sealed, SealKind::revocable};
    auto served = std::make_unique<broker::ServedPool>();
    auto watched =
        std::make_unique<WatchedPool>(std::move(broker::pool::open_memory(std::move(memory)).value()));
    pool_ = watched.get();
    served->pool = std::move(watched);
    served->confiner = confiner_.get();
    pools_.push_back(std::move(served));
    quotas_.add_pool("dram", 64U << 20U);
    constexpr const char* kPolicy =
        "[pool.dram]\nbacking=\"memory\"\ncapacity=\"64M\"\nconfinement=\"sealed\"\n"
        "[[rule]]\nany=true\nnames=[\"**\"]\n";
    regions_.emplace(broker::Regions::Parts{loop(), harness_.worker, harness_.worker, harness_.worker,
                                            sealer_, directory_, quotas_, *ledger_, keeper_, custody_,
                                            sessions, report_, clock_, boot_, pools_},
                     policy::load_text(kPolicy, "policy.toml", policy::system_accounts()).value());
  }
  ~RegionsTest() override {
    until([this] { return directory_.size() == 0; });
    EXPECT_EQ(directory_.size(), 0U) << "regions that were not revoked, or never ended";
    std::filesystem::remove_all(directory_path_);
  }

  broker::Loop& loop() { return harness_.loop; }
  broker::Regions& regions() { return *regions_; }
  broker::Directory& directory() { return directory_; }
  broker::Quotas& quotas() { return quotas_; }
  broker::Worker& worker() { return harness_.worker; }
  broker::Report& report() { return report_; }
  WatchedPool& pool() { return *pool_; }
  broker::ServedPools& pools() { return pools_; }
  IdleKeeper& keeper() { return keeper_; }

  /// A user on a connection.
  struct Who {
    std::uint32_t uid = 1000;
    broker::SessionId session = 1;
    broker::Token token{};
  };

  Result<schema::Granted> create(const Who& who, const std::string& name, Lifetime lifetime,
                                 std::uint32_t mode = 0600, std::optional<SealKind> seal = std::nullopt) {
    schema::Create ask;
    ask.seal = seal;
    ask.name = name;
    ask.size = 4096;
    ask.mode = mode;
    ask.lifetime = lifetime;
    return body<schema::Granted>(who, [&](broker::Caller caller) { return regions_->create(caller, ask); });
  }
  Result<schema::Granted> create(const Who& who, const schema::Create& ask) {
    return body<schema::Granted>(who, [&](broker::Caller caller) { return regions_->create(caller, ask); });
  }
  Result<schema::Granted> open(const Who& who, const std::string& name, Access rights = Access::read_only) {
    const schema::Open ask{name, rights};
    return body<schema::Granted>(who, [&](broker::Caller caller) { return regions_->open(caller, ask); });
  }
  Result<schema::Renewed> renew(const Who& who, const std::string& name, std::chrono::nanoseconds ttl) {
    const schema::Renew ask{name, ttl};
    return body<schema::Renewed>(who, [&](broker::Caller caller) { return regions_->renew(caller, ask); });
  }
  Result<Revoked> revoke(const Who& who, const std::string& name) {
    schema::Revoke ask;
    ask.name = name;
    return body<Revoked>(who, [&](broker::Caller caller) { return regions_->revoke(caller, ask); });
  }
  Result<RegionDetails> show(const Who& who, const std::string& name) {
    const schema::Show ask{name};
    return body<RegionDetails>(who, [&](broker::Caller caller) { return regions_->show(caller, ask); });
  }
  Result<schema::Listing> list(const Who& who, const schema::List& ask) {
    return body<schema::Listing>(who, [&](broker::Caller caller) { return regions_->list(caller, ask); });
  }

  Result<schema::Published> publish(const Who& who, const std::string& name,
                                    std::chrono::nanoseconds within = {}) {
    return body<schema::Published>(who, [&](broker::Caller caller) {
      return regions_->publish(caller, {name, within});
    });
  }
  /// Beside what the test goes on with; `answer` gets what it came to. The loop runs until it has.
  broker::Task<void> publish_beside(Who who, std::string name, broker::Asker& asker,
                                    std::optional<Result<void>>& answer) {
    const policy::Subject subject =
        policy::Subject::for_explanation(who.uid, who.uid, {}, std::to_string(who.uid));
    const broker::Caller caller{subject, who.session, who.token, 1, nullptr, &asker};
    const schema::Publish ask{std::move(name), std::chrono::hours(1)};
    auto delivered = co_await regions_->publish(caller, ask);
    answer = delivered ? Result<void>(ok()) : Result<void>(delivered.error());
  }

  /// Runs the loop until `condition` holds.
  template <typename Condition>
  bool until(Condition condition) {
    return harness_.run(eventually(loop(), condition));
  }

  template <typename T>
  T run(broker::Task<T> task) {
    return harness_.run(std::move(task));
  }

  ToldSessions sessions;

 private:
  /// The verb's answer; a descriptor that came with it is closed.
  template <typename Body, typename Verb>
  Result<Body> body(const Who& who, Verb verb) {
    const policy::Subject subject =
        policy::Subject::for_explanation(who.uid, who.uid, {}, std::to_string(who.uid));
    auto delivered = harness_.run(verb(broker::Caller{subject, who.session, who.token, 1}));
    if (!delivered) return delivered.error();
    delivered.value().undo.disarm();  // As after a reply that was sent.
    return std::get<Body>(std::move(delivered.value().body));
  }

  std::string directory_path_;
  LoopHarness harness_;
  broker::Worker sealer_{harness_.loop, 2};
  std::unique_ptr<broker::ledger::Ledger> ledger_;
  IdleKeeper keeper_;
  Confiner confiner_;
  broker::ServedPools pools_;
  WatchedPool* pool_ = nullptr;
  broker::Quotas quotas_;
  broker::Directory directory_;
  broker::Custody custody_{keeper_, harness_.worker};
  broker::LogReport report_;
  broker::SystemClock clock_;
  broker::ledger::BootId boot_{1};
  std::optional<broker::Regions> regions_;
};

}  // namespace mapcap::test
