#include "tests/crash/ledger_scenario.h"

#include <algorithm>
#include <future>
#include <map>
#include <random>
#include <tuple>

#include "broker/ledger/recovery.h"
#include "tests/support/loop_harness.h"
#include "tests/support/memory_medium.h"

namespace mapcap::test {

using broker::Task;
using broker::ledger::Ledger;
using broker::ledger::Strength;

broker::ledger::RegionRecord region_with(Key key, std::uint64_t value) {
  broker::ledger::RegionRecord record;
  record.id = RegionId{key.number};
  record.name = "scenario/region-" + std::to_string(key.number);
  record.pool = "pool";
  record.owner = static_cast<std::uint32_t>(value * 7);
  record.size = {value << 12U};
  record.ttl_ns = value * 3;
  record.boot.fill(static_cast<std::uint8_t>(value));
  record.session.fill(static_cast<std::uint8_t>(value >> 8U));
  record.extent = value;
  if (value % 3 == 2) {  // Published, which lies where a ttl would.
    record.published_unix_ns = static_cast<std::int64_t>(value);
    record.ttl_ns = 0;
  }
  return record;
}

broker::ledger::QuotaRecord quota_with(Key key, std::uint64_t value) {
  return {SubjectKind::user, static_cast<std::uint32_t>(key.number), "pool", {value, {}, value + 1, {}}};
}

broker::ledger::EndpointRecord endpoint_with(Key key, std::uint64_t value) {
  broker::ledger::EndpointRecord record;
  record.number = key.number;
  record.id = "endpoint-" + std::to_string(key.number);
  record.principal = static_cast<std::uint32_t>(key.number);
  record.limits.bytes = value;
  record.created_unix_ns = static_cast<std::int64_t>(value * 3);
  record.names = {std::string(100, 'n') + std::to_string(key.number), std::string(100, 'm'), "x/**"};
  record.verbs = {"open"};
  return record;
}

namespace {

/// One after another, operations of keys that are its own.
class Client {
 public:
  Client(Ledger& ledger, History& history, std::uint64_t number, Granularity granularity)
      : ledger_(ledger),
        history_(history),
        random_(number),
        quota_{true, number},
        granularity_(granularity) {}

  Task<void> run(int rounds) {
    for (int round = 0; round < rounds; ++round) {
      if (granularity_ == Granularity::page && chance(5)) history_.medium->fail_syncs(1);
      // Growth is forbidden long enough for the table to be full, and allowed again.
      if (round % 40 == 8) history_.medium->refuse_growth(true);
      if (round % 40 == 32) history_.medium->refuse_growth(false);
      co_await step();
    }
    history_.medium->refuse_growth(false);
    ended = true;
  }

  bool ended = false;

 private:
  struct Own {
    Key key;
    Strength strength;
  };

  bool chance(unsigned percent) { return random_() % 100 < percent; }

  Task<void> step() {
    const auto dice = random_() % 100;
    if (own_.size() < 4 || dice < 34) {
      // Enough to use up more than one reservation of ids now and then.
      if (chance(15)) {
        for (std::uint64_t i = 0; i < 2 * broker::ledger::kIdChunk; ++i) ledger_.next_id();
      }
      const Own made{{false, ledger_.next_id().value}, chance(35) ? Strength::process : Strength::power};
      if (co_await put(made.key, made.strength)) own_.push_back(made);
    } else if (dice < 70) {
      Own& own = own_[random_() % own_.size()];
      // A weaker request for a record that is at power strength already must not weaken it.
      const Strength asked = chance(20) ? Strength::process : own.strength;
      const Key key = own.key;
      co_await put(key, asked);
    } else if (dice < 90) {
      const std::size_t at = random_() % own_.size();
      const Own own = own_[at];
      if (co_await erase(own.key, own.strength)) own_.erase(own_.begin() + static_cast<std::ptrdiff_t>(at));
    } else if (dice < 92) {
      co_await promote();
    } else if (dice < 95) {
      co_await put(quota_, Strength::power);
    } else if (dice < 96) {
      co_await erase(quota_, Strength::power);
    } else {
      co_await endpoint_step();
    }
  }

  Task<void> endpoint_step() {
    if (!endpoint_) {
      const Key made{false, ledger_.next_id().value, true};
      const bool done = co_await put(made, Strength::power);
      if (done) endpoint_ = made;
    } else if (chance(60)) {
      const Key key = *endpoint_;
      co_await put(key, Strength::power);
    } else {
      const Key key = *endpoint_;
      const bool done = co_await erase(key, Strength::power);
      if (done) endpoint_.reset();
    }
  }

  /// A volatile past, then power strength, then gone for good. The others between its versions put these on
  /// different pages.
  Task<void> promote() {
    const Key key{false, ledger_.next_id().value};
    std::vector<Key> others;
    bool done = co_await put(key, Strength::process);
    while (done && others.size() < 16) {
      others.push_back({false, ledger_.next_id().value});
      done = co_await put(others.back(), Strength::process);
    }
    done = done && co_await put(key, Strength::process);
    done = done && co_await put(key, Strength::power);
    if (done) co_await erase(key, Strength::power);
    if (done) co_await put(quota_, Strength::power);
    for (const Key other : others) co_await erase(other, Strength::process);
  }

  Task<bool> put(Key key, Strength strength) {
    const std::size_t at = history_.operations.size();
    const std::uint64_t value = at + 1;
    history_.operations.push_back({key, value, strength, history_.medium->position()});
    Result<void> done = ok();
    if (key.quota) {
      broker::ledger::QuotaRecord record = quota_with(key, value);
      done = co_await ledger_.put_quota(std::move(record));
    } else if (key.endpoint) {
      broker::ledger::EndpointRecord record = endpoint_with(key, value);
      done = co_await ledger_.put_endpoint(std::move(record));
    } else {
      broker::ledger::RegionRecord record = region_with(key, value);
      done = co_await ledger_.put(std::move(record), strength);
    }
    co_return end(at, done);
  }

  Task<bool> erase(Key key, Strength strength) {
    const std::size_t at = history_.operations.size();
    history_.operations.push_back({key, std::nullopt, strength, history_.medium->position()});
    Result<void> done = ok();
    if (key.quota) {
      std::string pool = "pool";
      done = co_await ledger_.erase_quota(SubjectKind::user, static_cast<std::uint32_t>(key.number),
                                          std::move(pool));
    } else if (key.endpoint) {
      done = co_await ledger_.erase_endpoint(key.number);
    } else {
      done = co_await ledger_.erase(RegionId{key.number}, strength);
    }
    co_return end(at, done);
  }

  bool end(std::size_t at, const Result<void>& done) {
    Operation& operation = history_.operations[at];
    operation.end = history_.medium->position();
    operation.refused = !done;
    if (!done) {
      const bool space = done.error().sentence.find("full") != std::string::npos;
      ++(space ? history_.refused_for_space : history_.refused_for_io);
    }
    return !operation.refused;
  }

  Ledger& ledger_;
  History& history_;
  std::mt19937_64 random_;
  Key quota_;
  Granularity granularity_;
  std::vector<Own> own_;
  std::optional<Key> endpoint_;
};

/// Holds the worker until the loop has run everything that was ready: posted work is first in, first out, and
/// chains of it are short. So what a sync overlaps with does not depend on the machine's speed.
void wait_until_idle(broker::Loop& loop) {
  struct Hops {
    std::promise<void> idle;
    int left = 64;
  };
  // Shared, because the loop is still inside the last hop when the wait ends.
  auto hops = std::make_shared<Hops>();
  std::future<void> idle = hops->idle.get_future();
  struct Hop {
    broker::Loop* loop;
    std::shared_ptr<Hops> hops;
    void operator()() const {
      if (--hops->left == 0) return hops->idle.set_value();
      loop->post(*this);
    }
  };
  loop.post(Hop{&loop, std::move(hops)});
  idle.wait();
}

}  // namespace

History run_scenario(Granularity granularity, Mutation mutation, int rounds) {
  History history;
  std::vector<std::byte> bytes = empty_ledger(32);
  history.medium = std::make_shared<RecordingMedium>(granularity, bytes, bytes, mutation);
  LoopHarness harness;
  auto opened = broker::ledger::open_on(history.medium, harness.loop, harness.worker);
  MAPCAP_INVARIANT(opened.has_value(), "an empty ledger does not open");
  history.medium->set_pause([&harness] { wait_until_idle(harness.loop); });
  Ledger& subject = *opened.value();
  // Uses up the first reservation of ids: the superblock changes before anything else has been made durable.
  for (std::uint64_t i = 0; i < 2 * broker::ledger::kIdChunk; ++i) subject.next_id();
  std::vector<std::unique_ptr<Client>> clients;
  for (std::uint64_t i = 0; i < (granularity == Granularity::page ? 4 : 1); ++i) {
    clients.push_back(std::make_unique<Client>(subject, history, i + 1, granularity));
  }
  const int each = rounds / static_cast<int>(clients.size());
  auto all = [](std::vector<std::unique_ptr<Client>>& running, Ledger& on, broker::Loop& loop,
                int count) -> Task<int> {
    for (auto& client : running) broker::spawn(client->run(count));
    // Not yield(): the pause above counts what is ready.
    while (!std::all_of(running.begin(), running.end(), [](const auto& client) { return client->ended; })) {
      co_await loop.sleep(std::chrono::milliseconds(1));
    }
    // A failure may still be waiting for the next sync.
    auto closed = co_await on.close();
    if (!closed) closed = co_await on.close();
    co_return closed ? 0 : 1;
  };
  MAPCAP_INVARIANT(harness.run(all(clients, subject, harness.loop, each)) == 0,
                   "the scenario's ledger does not close");
  history.closed = history.medium->position();
  return history;
}

Expectation::Expectation(const History& history, std::size_t position, Crash crash) {
  // Of the syncs that succeeded before the crash, the beginning of the last: what was taken back before it is
  // gone.
  std::size_t last_sync = 0;
  std::size_t began = 0;
  for (std::size_t i = 0; i < position; ++i) {
    const Event::Kind kind = history.medium->events()[i].kind;
    if (kind == Event::Kind::sync_begin) began = i;
    if (kind == Event::Kind::sync_done) last_sync = began;
  }
  std::map<std::tuple<bool, bool, std::uint64_t>, std::vector<const Operation*>> by_key;
  for (const Operation& operation : history.operations) {
    if (operation.begin <= position)
      by_key[{operation.key.quota, operation.key.endpoint, operation.key.number}].push_back(&operation);
  }
  for (const auto& [key, operations] : by_key) {
    const auto& [quota, endpoint, number] = key;
    Allowed allowed{{quota, number, endpoint}, false, true, {}};
    bool strict = crash == Crash::kill || position >= history.closed;
    bool powered = false;
    for (const Operation* operation : operations) {
      const bool ended = operation->end <= position;
      powered = powered || operation->strength == Strength::power;
      if (ended && !operation->refused) {
        allowed.values.clear();
        allowed.absent = false;
        if (powered) strict = true;
        if (!operation->key.quota)
          highest_acknowledged_ = std::max(highest_acknowledged_, operation->key.number);
      }
      // Taken back, but only in memory until a sync has succeeded.
      if (ended && operation->refused && operation->end <= last_sync) continue;
      if (operation->value) {
        allowed.values.push_back(*operation->value);
      } else {
        allowed.absent = true;
      }
    }
    allowed.anything = !strict;
    if (allowed.anything) {
      for (const Operation* operation : operations) {
        if (operation->value) allowed.values.push_back(*operation->value);
      }
    }
    if (!quota && !endpoint) by_number_[number] = allowed_.size();
    allowed_.push_back(std::move(allowed));
  }
}

const Expectation::Allowed* Expectation::find(Key key) const {
  if (!key.quota && !key.endpoint) {
    const auto at = by_number_.find(key.number);
    return at == by_number_.end() ? nullptr : &allowed_[at->second];
  }
  const auto at =
      std::find_if(allowed_.begin(), allowed_.end(), [&](const Allowed& a) { return a.key == key; });
  return at == allowed_.end() ? nullptr : &*at;
}

std::string Expectation::judge(const broker::ledger::Recovered& found, std::uint64_t next_id) const {
  std::size_t present = 0;
  auto check = [&](Key key, std::uint64_t value, bool whole) -> std::string {
    const std::string name =
        (key.quota ? "quota " : (key.endpoint ? "endpoint " : "region ")) + std::to_string(key.number);
    const Allowed* allowed = find(key);
    if (allowed == nullptr) return name + " was never asked for";
    if (std::find(allowed->values.begin(), allowed->values.end(), value) == allowed->values.end()) {
      return name + " has value " + std::to_string(value) + ", which is neither before nor after";
    }
    if (!whole) return name + " is a mixture";
    if (!allowed->absent && !allowed->anything) ++present;
    return {};
  };
  for (const broker::ledger::RegionRecord& region : found.regions) {
    const Key key{false, region.id.value};
    if (std::string wrong = check(key, region.extent, region == region_with(key, region.extent));
        !wrong.empty()) {
      return wrong;
    }
  }
  for (const broker::ledger::QuotaRecord& quota : found.quotas) {
    const Key key{true, quota.id};
    const std::uint64_t value = quota.limits.bytes.value_or(0);
    if (std::string wrong = check(key, value, quota == quota_with(key, value)); !wrong.empty()) return wrong;
  }
  for (const broker::ledger::EndpointRecord& endpoint : found.endpoints) {
    const Key key{false, endpoint.number, true};
    const std::uint64_t value = endpoint.limits.bytes.value_or(0);
    if (std::string wrong = check(key, value, endpoint == endpoint_with(key, value)); !wrong.empty())
      return wrong;
  }
  const auto required = static_cast<std::size_t>(std::count_if(
      allowed_.begin(), allowed_.end(), [](const Allowed& a) { return !a.absent && !a.anything; }));
  if (present != required) {
    return std::to_string(required - present) + " acknowledged records are missing";
  }
  if (next_id <= highest_acknowledged_) return "id " + std::to_string(next_id) + " would be given out again";
  return {};
}

}  // namespace mapcap::test
