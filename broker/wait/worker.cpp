#include "broker/wait/worker.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "broker/wait/scheduling.h"

namespace mapcap::broker {

namespace {

/// Threads that may stand aside: as many others take their places, each some 8 KiB while it waits. Work that
/// finds no more of them goes on without a pause.
constexpr std::size_t kMostAside = 32;

}  // namespace

/// Work that has begun. Lives on its thread's stack.
struct Worker::Job {
  Worker& worker;
  Shares::iterator share;
  Time since = worker.now();        ///< Its time until then has been counted.
  bool may_go_on = false;           ///< Aside: it is its owner's turn again.
  std::condition_variable woken{};  ///< With the worker's mutex.
  /// What this thread is at.
  static thread_local Job* current;
};
thread_local Worker::Job* Worker::Job::current = nullptr;

Worker::Worker(Loop& loop, std::size_t threads, Pace pace)
    : loop_(loop),
      at_once_(threads),
      for_one_(std::max<std::size_t>(threads / 4, 1)),
      for_nobody_(pace == Pace::patient ? threads : std::max(threads - for_one_, for_one_)),
      pace_(pace) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < threads; ++i) start_thread();
}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  // Those that begin later are behind it in the list, which no longer moves once it is over.
  for (std::size_t i = 0;; ++i) {
    std::thread thread;
    {
      const std::lock_guard lock(mutex_);
      if (i == threads_.size()) return;
      thread = std::move(threads_[i]);
    }
    thread.join();
  }
}

void Worker::start_thread() {
  // Threads inherit the mask: signals stay with the loop.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  threads_.emplace_back([this] { serve(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Worker::submit(Meter::Account account, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    Share& share = shares_.try_emplace(account).first->second;
    share.used = std::max(share.used, begin_);
    share.waiting.push_back(std::move(work));
    ++left_;
  }
  wake_.notify_one();
}

Worker::Shares::iterator Worker::next() {
  auto least = shares_.end();
  for (auto at = shares_.begin(); at != shares_.end();) {
    Share& share = at->second;
    const bool idle = share.waiting.empty() && share.begun == 0;
    if (idle && share.used <= begin_) {
      at = shares_.erase(at);  // Owes nothing.
      continue;
    }
    const std::size_t most = at->first ? for_one_ : for_nobody_;
    const bool has_next = !share.aside.empty() || (!share.waiting.empty() && share.begun < most);
    if (has_next && (least == shares_.end() || share.used < least->second.used)) least = at;
    ++at;
  }
  return least;
}

void Worker::let_go_on(Shares::iterator share) {
  Job& job = *share->second.aside.front();
  share->second.aside.pop_front();
  begin_ = std::max(begin_, share->second.used);
  --aside_;
  ++running_;
  job.since = now();
  job.may_go_on = true;
  job.woken.notify_one();
}

void Worker::count_time(Job& job) {
  const Time until = job.worker.now();
  job.share->second.used += until - job.since;
  job.since = until;
}

void Worker::serve() {
  if (pace_ == Pace::patient) run_patiently();
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto share = running_ < at_once_ ? next() : shares_.end();
    if (share == shares_.end()) {
      if (stopping_ && left_ == 0) break;
      wake_.wait(lock);
      continue;
    }
    if (!share->second.aside.empty()) {
      let_go_on(share);
      continue;
    }
    begin_ = std::max(begin_, share->second.used);
    std::function<void()> work = std::move(share->second.waiting.front());
    share->second.waiting.pop_front();
    ++share->second.begun;
    ++running_;
    Job job{*this, share};
    lock.unlock();
    Job::current = &job;
    work();
    work = nullptr;
    Job::current = nullptr;
    lock.lock();
    count_time(job);
    --share->second.begun;
    --running_;
    --left_;
  }
  lock.unlock();
  wake_.notify_all();
}

void Worker::pause() {
  Job* const job = Job::current;
  if (job != nullptr) job->worker.step_aside(*job);
}

void Worker::step_aside(Job& job) {
  std::unique_lock lock(mutex_);
  count_time(job);
  if (running_ < at_once_) return;  // Whoever waits has a thread.
  const auto first = next();
  if (first == shares_.end() || first == job.share || first->second.used >= job.share->second.used) return;
  if (aside_ == kMostAside) return;
  ++aside_;
  --running_;
  job.may_go_on = false;
  job.share->second.aside.push_back(&job);
  if (!first->second.aside.empty()) {
    let_go_on(first);
  } else if (threads_.size() < at_once_ + aside_) {
    start_thread();
  } else {
    wake_.notify_one();
  }
  job.woken.wait(lock, [&job] { return job.may_go_on; });
}

}  // namespace mapcap::broker
