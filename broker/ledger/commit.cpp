#include "broker/ledger/commit.h"

#include <utility>

namespace mapcap::broker::ledger {

Commit::Commit(std::shared_ptr<Medium> medium, broker::Loop& loop, broker::Worker& worker)
    : medium_(std::move(medium)), loop_(loop), worker_(worker) {}

bool Commit::Durable::await_ready() {
  if (commit_.medium_->granularity() == Granularity::page) return false;
  commit_.medium_->fence(step_);
  return true;
}

void Commit::Durable::await_suspend(std::coroutine_handle<> waiting) {
  // The awaiter lives in the suspended coroutine's frame, which stays until it is resumed.
  waiting_.emplace(commit_.loop_, waiting);
  commit_.waiting_.push_back(this);
  if (!commit_.running_) commit_.start();
}

void Commit::start() {
  running_ = true;
  syncing_ = std::exchange(waiting_, {});
  const Range range = medium_->take_flushed().value_or(Range{});
  const Step step = syncing_.front()->step_;
  worker_.submit([medium = medium_, loop = &loop_, self = std::weak_ptr(self_), range, step]() mutable {
    auto result = std::make_shared<Result<void>>(medium->sync(range, step));
    // The medium travels back too: the last owner to go must be the loop's thread, or its lock could outlive
    // the ledger by a moment.
    loop->post([medium = std::move(medium), self, range, result] {
      if (const std::shared_ptr<Commit*> commit = self.lock()) (*commit)->end(range, *result);
    });
  });
}

void Commit::end(Range range, const Result<void>& result) {
  if (!result) {
    // Which pages of the range were written is unknown, and the kernel may think that all of them were.
    medium_->redirty();
    medium_->flush(range, Step::retry);
  }
  // Whoever is resumed may ask for the next commit at once; it starts when all have been told.
  for (Durable* durable : std::exchange(syncing_, {})) {
    durable->result_ = result;
    durable->waiting_->resume();
  }
  running_ = false;
  if (!waiting_.empty()) start();
}

}  // namespace mapcap::broker::ledger
