// mapcapd_faults: the broker, wrapped at its three interfaces to the machine so that it ends at a named step
// (step.h).
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <coroutine>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <map>
#include <span>
#include <string>

#include "broker/door/client_socket.h"
#include "broker/parts.h"
#include "tests/faults/step.h"

namespace mapcap::broker::parts {
namespace {

/// Whose region that is: the ledger's last change of a record says it.
std::map<RegionId, std::string>& pools_of_regions() {
  static std::map<RegionId, std::string> pools;  // The loop's.
  return pools;
}

class DyingConfiner final : public confine::Confiner {
 public:
  DyingConfiner(confine::Confiner& real, std::string pool) : real_(real), pool_(std::move(pool)) {}
  [[nodiscard]] Confinement kind() const override { return real_.kind(); }
  [[nodiscard]] bool tracks_grants() const override { return real_.tracks_grants(); }
  Result<void> attach(RegionId region, BorrowedFd fd, ByteCount size, confine::Backing backing) override {
    return real_.attach(region, fd, size, backing);
  }
  [[nodiscard]] bool guards_holes(RegionId region) const override { return real_.guards_holes(region); }
  Task<Result<confine::Issued>> issue(RegionId region, confine::Label label, BorrowedFd memory,
                                      confine::Backing backing) override {
    Result<confine::Issued> issued = co_await real_.issue(region, std::move(label), memory, backing);
    if (stops_at("issued", pool_)) co_await std::suspend_always();
    co_return issued;
  }
  Task<void> tell_published(RegionId region, std::int64_t unix_ns) override {
    co_await real_.tell_published(region, unix_ns);
    if (stops_at("told", pool_)) co_await std::suspend_always();
  }
  void detach(RegionId region) override { real_.detach(region); }
  std::optional<confine::Blank> take_blank(const confine::BlankSource& source, Access rights) override {
    std::optional<confine::Blank> blank = real_.take_blank(source, rights);
    if (blank) step("taken", pool_);
    return blank;
  }
  Result<void> name_blank(confine::Blank& blank, BorrowedFd memory, const confine::Label& label) override {
    Result<void> named = real_.name_blank(blank, memory, label);
    if (named) step("named", pool_);
    return named;
  }
  std::optional<confine::Issued> issue_blank(confine::Blank& blank) override {
    std::optional<confine::Issued> issued = real_.issue_blank(blank);
    if (issued) step("issued", pool_);
    return issued;
  }
  [[nodiscard]] Ahead ahead() const override { return real_.ahead(); }
  void drop_ready(RegionId region) override { real_.drop_ready(region); }

 private:
  confine::Confiner& real_;
  std::string pool_;
};

class DyingPool final : public pool::Pool {
 public:
  explicit DyingPool(std::shared_ptr<pool::Pool> real) : real_(std::move(real)) {}
  [[nodiscard]] const pool::Facts& facts() const override { return real_->facts(); }
  [[nodiscard]] bool quick() const override { return real_->quick(); }
  Result<ByteCount> size_for(ByteCount asked, CacheMode mode) override {
    return real_->size_for(asked, mode);
  }
  bool granting(const pool::Extent& extent) noexcept override { return real_->granting(extent); }
  void never_granted(const pool::Extent& extent) noexcept override { real_->never_granted(extent); }
  Result<pool::Extent> carve(const pool::Carving& carving, const pool::Progress& progress) override {
    const Acting acting(name());
    Result<pool::Extent> carved = real_->carve(carving, [&](ByteCount done, ByteCount total) {
      step("filling", name());
      if (progress) progress(done, total);
    });
    step("carved", name());
    return carved;
  }
  [[nodiscard]] bool makes_blanks() const override { return real_->makes_blanks(); }
  Result<Fd> blank() override { return real_->blank(); }
  Result<pool::Extent> carve_blank(Fd blank, const pool::Carving& carving) override {
    const Acting acting(name());
    Result<pool::Extent> carved = real_->carve_blank(std::move(blank), carving);
    step("carved", name());
    return carved;
  }
  Result<pool::Extent> reattach(const ledger::RegionRecord& record, Fd held) override {
    Result<pool::Extent> extent = real_->reattach(record, std::move(held));
    step("reattached", name());
    return extent;
  }
  Result<void> cut(pool::Extent& extent, SealKind seal) override {
    Result<void> done = real_->cut(extent, seal);
    step("cut", name());
    return done;
  }
  Result<bool> held(const pool::Extent& extent) override { return real_->held(extent); }
  Result<void> forbid_writing(const pool::Extent& extent) override {
    Result<void> done = real_->forbid_writing(extent);
    if (done) step("unwritable", name());
    return done;
  }
  [[nodiscard]] bool unwritable(const pool::Extent& extent) const override {
    return real_->unwritable(extent);
  }
  Result<void> zero_through(const pool::Extent& extent, BorrowedFd grant) override {
    Result<void> done = real_->zero_through(extent, grant);
    step("zeroed", name());
    return done;
  }
  [[nodiscard]] bool shares_description() const override { return real_->shares_description(); }
  Result<void> free(pool::Extent& extent, const pool::Progress& progress) override {
    const Acting acting(name());
    Result<void> done = real_->free(extent, progress);
    step("freed", name());
    return done;
  }
  bool free_at_once(pool::Extent& extent) override {
    const bool done = real_->free_at_once(extent);
    if (done) step("freed", name());
    return done;
  }
  // Extents that the real pool made are discarded by it.
  void discard(pool::Extent& extent) noexcept override { real_->discard(extent); }
  Result<void> free_discarded() override { return real_->free_discarded(); }
  Result<void> sweep(const pool::Recorded& recorded) override {
    const Acting acting(name());
    Result<void> done = real_->sweep(recorded);
    step("swept", name());
    return done;
  }
  [[nodiscard]] bool wears_out() const override { return real_->wears_out(); }
  std::uint32_t bad_blocks(std::uint64_t word) override { return real_->bad_blocks(word); }

 private:
  [[nodiscard]] const std::string& name() const { return real_->facts().name; }

  std::shared_ptr<pool::Pool> real_;
};

class DyingLedger final : public ledger::Ledger {
 public:
  explicit DyingLedger(std::unique_ptr<ledger::Ledger> real) : real_(std::move(real)) {}
  [[nodiscard]] std::uint32_t identity() const override { return real_->identity(); }
  ledger::Recovered take_recovered() override {
    ledger::Recovered recovered = real_->take_recovered();
    for (const ledger::RegionRecord& record : recovered.regions) pools_of_regions()[record.id] = record.pool;
    return recovered;
  }
  RegionId next_id() override { return real_->next_id(); }
  Task<Result<void>> put(ledger::RegionRecord record, ledger::Strength strength) override {
    const RegionState state = record.state;
    const bool published = record.published_unix_ns != 0;
    const std::string pool = record.pool;
    pools_of_regions()[record.id] = pool;
    Result<void> done = co_await real_->put(std::move(record), strength);
    const std::string_view live = published ? "published" : "recorded";
    if (stops_at(state == RegionState::live ? live : to_string(state), pool)) {
      co_await std::suspend_always();
    }
    co_return done;
  }
  Task<Result<void>> erase(RegionId id, ledger::Strength strength) override {
    const std::string pool = pools_of_regions()[id];
    Result<void> done = co_await real_->erase(id, strength);
    if (stops_at("erased", pool)) co_await std::suspend_always();
    co_return done;
  }
  Task<Result<void>> put_quota(ledger::QuotaRecord record) override {
    return real_->put_quota(std::move(record));
  }
  Task<Result<void>> erase_quota(SubjectKind subject, std::uint32_t id, std::string pool) override {
    return real_->erase_quota(subject, id, std::move(pool));
  }
  Task<Result<void>> put_endpoint(ledger::EndpointRecord record) override {
    const std::string step = "endpoint-" + std::string(to_string(record.state));
    Result<void> done = co_await real_->put_endpoint(std::move(record));
    if (stops_at(step, "")) co_await std::suspend_always();
    co_return done;
  }
  Task<Result<void>> erase_endpoint(std::uint64_t number) override {
    Result<void> done = co_await real_->erase_endpoint(number);
    if (stops_at("endpoint-erased", "")) co_await std::suspend_always();
    co_return done;
  }
  void on_trouble(std::function<void(const Failure*)> told) override { real_->on_trouble(std::move(told)); }
  [[nodiscard]] const std::optional<Failure>& trouble() const override { return real_->trouble(); }
  Task<Result<void>> close() override { return real_->close(); }
  [[nodiscard]] Granularity granularity() const override { return real_->granularity(); }

 private:
  std::unique_ptr<ledger::Ledger> real_;
};

class DyingKeeper final : public keeper::Keeper {
 public:
  explicit DyingKeeper(std::unique_ptr<keeper::Keeper> real) : real_(std::move(real)) {}
  Result<void> reopen_directory() override { return real_->reopen_directory(); }
  void attach(Loop& loop) override { real_->attach(loop); }
  [[nodiscard]] bool adopted() const override { return real_->adopted(); }
  [[nodiscard]] bool knows_earlier_grants() const override { return real_->knows_earlier_grants(); }
  [[nodiscard]] int pid() const override { return real_->pid(); }
  [[nodiscard]] keeper::KeeperHealth health() const override { return real_->health(); }
  std::vector<keeper::HeldMemory> take_held() override { return real_->take_held(); }
  std::vector<confine::LiveGrant> take_live_grants() override { return real_->take_live_grants(); }
  Task<Result<void>> hold(RegionId region, BorrowedFd fd) override {
    Result<void> done = co_await real_->hold(region, fd);
    step("held", "");
    co_return done;
  }
  void guard(RegionId region, BorrowedFd fd) override { real_->guard(region, fd); }
  void guard_socket(RegionId number, BorrowedFd socket) override { real_->guard_socket(number, socket); }
  void drop(RegionId region) override {
    real_->drop(region);
    step("dropped", "");
  }
  [[nodiscard]] std::vector<RegionId> unheld(std::size_t most) const override { return real_->unheld(most); }
  Task<bool> settle(std::chrono::nanoseconds patience) override { return real_->settle(patience); }
  Task<bool> prepare_to_leave(std::chrono::nanoseconds patience) override {
    return real_->prepare_to_leave(patience);
  }
  void on_release(std::function<void(confine::GrantId)> released, std::function<void()> told) override {
    real_->on_release(std::move(released), std::move(told));
  }
  void on_ended(std::function<void(const std::string&)> ended) override { real_->on_ended(std::move(ended)); }
  void on_replaced(std::function<void()> replaced) override { real_->on_replaced(std::move(replaced)); }
  confine::Confiner& clone() override { return real_->clone(); }
  [[nodiscard]] std::string clone_unavailable() const override { return real_->clone_unavailable(); }
  bool leave() override { return real_->leave(); }
  void shut_down() override { real_->shut_down(); }

 private:
  std::unique_ptr<keeper::Keeper> real_;
};

}  // namespace

Result<std::unique_ptr<keeper::Keeper>> keeper(const keeper::KeeperOptions& options) {
  MAPCAP_TRY(std::unique_ptr<keeper::Keeper> real, keeper::Keeper::adopt_or_start(options));
  return std::unique_ptr<keeper::Keeper>(std::make_unique<DyingKeeper>(std::move(real)));
}

Result<std::unique_ptr<ledger::Ledger>> ledger(const std::string& path, Loop& loop, Worker& worker) {
  MAPCAP_TRY(std::unique_ptr<ledger::Ledger> real, ledger::Ledger::open(path, loop, worker));
  return std::unique_ptr<ledger::Ledger>(std::make_unique<DyingLedger>(std::move(real)));
}

Result<ServedPools> pools(const policy::Policy& policy, Confiners& confiners, std::uint32_t ledger) {
  static std::list<DyingConfiner> wrapped;  // As long as the program: served pools only point to them.
  MAPCAP_TRY(ServedPools served, open_pools(policy, confiners, ledger));
  for (const auto& one : served) {
    one->pool = std::make_shared<DyingPool>(std::move(one->pool));
    one->confiner = &wrapped.emplace_back(*one->confiner, one->facts().name);
  }
  return served;
}

/// MAPCAP_DESCRIPTORS_RIDE: as on a kernel that cannot refuse them.
bool refuse_descriptors(BorrowedFd socket) {
  if (std::getenv("MAPCAP_DESCRIPTORS_RIDE") != nullptr)  // NOLINT(concurrency-mt-unsafe): nobody sets it.
    return false;
  return broker::refuse_descriptors(socket);
}

/// A stranger's program has to be executed, which nothing else of the broker may.
std::span<const char* const> more_system_calls() {
  static constexpr const char* kExecute[] = {"execveat"};
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it.
  if (std::getenv("MAPCAP_STRANGER") == nullptr) return {};
  return kExecute;
}

/// MAPCAP_STRANGER=N: the broker has been taken over, and what runs from now on is the program whose file is descriptor N.
void serving() {
  const char* number = std::getenv("MAPCAP_STRANGER");  // NOLINT(concurrency-mt-unsafe): nobody sets it.
  if (number == nullptr) return;
  char name[] = "stranger";
  char* arguments[] = {name, nullptr};
  char* environment[] = {nullptr};
  // SAFETY: no libc wrapper is exported for it in every mode; takes a descriptor, an empty path, and two lists.
  ::syscall(SYS_execveat, std::atoi(number), "", arguments, environment, AT_EMPTY_PATH);
  std::perror("execveat of the stranger");
  ::_exit(9);
}

}  // namespace mapcap::broker::parts
