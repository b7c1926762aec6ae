// Group commit. Whoever awaits durable() is resumed once all that was flushed before is durable, or failed to
// be.
//
// On media that flush cache lines that is one fence, at once. On media that msync, requests that arrive while
// one msync runs on the worker are joined into the next.
#pragma once

#include <coroutine>
#include <memory>
#include <optional>
#include <vector>

#include "broker/ledger/medium/medium.h"
#include "broker/wait/loop.h"
#include "broker/wait/worker.h"

namespace mapcap::broker::ledger {

class Commit {
 public:
  Commit(std::shared_ptr<Medium> medium, broker::Loop& loop, broker::Worker& worker);

  class Durable {
   public:
    Durable(Commit& commit, Step step) : commit_(commit), step_(step) {}
    [[nodiscard]] bool await_ready();
    void await_suspend(std::coroutine_handle<> waiting);
    Result<void> await_resume() { return std::move(result_); }

   private:
    friend class Commit;
    Commit& commit_;
    Step step_;
    std::optional<broker::Waiter> waiting_;
    Result<void> result_ = ok();
  };
  /// co_await: Errors: `io`; then the caller takes its stores back, before it waits for anything else.
  Durable durable(Step step) { return {*this, step}; }

 private:
  void start();
  void end(Range range, const Result<void>& result);

  std::shared_ptr<Medium> medium_;
  broker::Loop& loop_;
  broker::Worker& worker_;
  std::vector<Durable*> waiting_;  // For the next sync.
  std::vector<Durable*> syncing_;  // For the one that runs.
  bool running_ = false;
  std::shared_ptr<Commit*> self_ = std::make_shared<Commit*>(this);  // Expires with this.
};

}  // namespace mapcap::broker::ledger
