#include "broker/wait/loop.h"

#include <unistd.h>
#include <boost/asio/basic_signal_set.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <map>
#include <optional>

#include "base/result.h"

namespace asio = boost::asio;

namespace mapcap::broker {

namespace {

// Bound to the one context, not to any_io_executor: no type erasure on the way of each wake-up.
using Descriptor = asio::posix::basic_stream_descriptor<asio::io_context::executor_type>;
using SignalSet = asio::basic_signal_set<asio::io_context::executor_type>;

}  // namespace

/// By the loop's time, then in the order in which they were set.
using TimerQueue = std::map<std::pair<TimeSource::Time, std::uint64_t>, std::weak_ptr<Loop::Timer::State>>;

struct Loop::Timer::State {
  std::function<void()> work;
  std::weak_ptr<TimerQueue> queue;
  TimerQueue::iterator at;  ///< Valid until it has fired: `queued`.
  bool queued = false;

  explicit State(std::function<void()> one) : work(std::move(one)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  /// A timer that is dropped leaves at once: it may not be due for years.
  ~State() {
    if (!queued) return;
    if (const std::shared_ptr<TimerQueue> still = queue.lock()) still->erase(at);
  }
};

// The time's one alarm carries all timers.
struct Loop::Implementation {
  TimeSource& time;
  Meter& meter;
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard = asio::make_work_guard(context);
  SignalSet signals{context};
  std::function<void(int)> on_signal;
  std::uint64_t timers = 0;  ///< Set so far.
  std::shared_ptr<TimerQueue> due = std::make_shared<TimerQueue>();
  Descriptor alarm{context};

  Implementation(TimeSource& source, Meter& its_meter) : time(source), meter(its_meter) {
    alarm.assign(time.alarm().get());
    watch_alarm();
  }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;
  ~Implementation() { alarm.release(); }  // It is not Asio's to close.

  void watch_alarm() {
    alarm.async_wait(Descriptor::wait_read, [this](const boost::system::error_code& failed) {
      if (failed) return;
      meter.nobodys();
      std::uint64_t expirations = 0;
      [[maybe_unused]] ssize_t drained = ::read(alarm.native_handle(), &expirations, sizeof expirations);
      fire();
      watch_alarm();
    });
  }

  /// What is due now. Timers that this sets in turn wait for the next turn of the loop, also when they are due
  /// at once.
  void fire() {
    const TimeSource::Time now = time.now();
    const std::uint64_t set_before = timers;
    for (auto next = due->begin(); next != due->end() && next->first.first <= now;) {
      if (next->first.second >= set_before) {
        ++next;
        continue;
      }
      std::shared_ptr<Timer::State> state = next->second.lock();
      due->erase(next);
      if (state) {
        state->queued = false;
        auto work = std::exchange(state->work, nullptr);
        state.reset();
        if (work) work();
      }
      next = due->begin();  // The work may have dropped any.
    }
    arm();
  }

  void arm() { time.set_alarm(due->empty() ? std::nullopt : std::optional(due->begin()->first.first)); }

  void wait_signals() {
    signals.async_wait([this](const boost::system::error_code& failed, int number) {
      if (failed) return;
      meter.nobodys();
      on_signal(number);
      wait_signals();
    });
  }
};

Loop::Loop(TimeSource& time)
    : time_(time), meter_(time), implementation_(std::make_unique<Implementation>(time, meter_)) {}
Loop::~Loop() = default;

void Loop::run() {
  implementation_->context.run();
  // A stop() ends one run; the next one goes on.
  implementation_->context.restart();
}
void Loop::stop() {
  implementation_->context.stop();
}
void Loop::run_ready() {
  std::size_t ran = 0;
  do {
    ran = implementation_->context.poll();
    implementation_->context.restart();
  } while (ran > 0);
}
void Loop::post(std::function<void()> work) {
  asio::post(implementation_->context, [this, work = std::move(work)] {
    meter_.nobodys();
    work();
  });
}

void Loop::post(Waiter waiter) {
  asio::post(implementation_->context, [waiter] { waiter.resume(); });
}

Loop::Timer::Timer() = default;
Loop::Timer::~Timer() = default;
Loop::Timer::Timer(Timer&&) noexcept = default;
Loop::Timer& Loop::Timer::operator=(Timer&&) noexcept = default;
Loop::Timer::Timer(std::shared_ptr<State> state) : state_(std::move(state)) {}

Loop::Timer Loop::after(std::chrono::nanoseconds delay, std::function<void()> work) {
  auto state = std::make_shared<Timer::State>(std::move(work));
  const TimeSource::Time at = time_.now() + std::max(delay, std::chrono::nanoseconds::zero());
  state->queue = implementation_->due;
  state->at = implementation_->due->emplace(std::pair(at, implementation_->timers++), state).first;
  state->queued = true;
  if (state->at == implementation_->due->begin()) implementation_->arm();
  return Timer(std::move(state));
}

struct Loop::Watch::State {
  explicit State(asio::io_context& context) : descriptor(context) {}
  Descriptor descriptor;
  bool cancelled = false;
};

Loop::Watch::Watch(Loop& loop, BorrowedFd fd)
    : loop_(&loop), state_(std::make_shared<State>(loop.implementation_->context)) {
  boost::system::error_code failed;
  state_->descriptor.assign(fd.get(), failed);
  MAPCAP_INVARIANT(!failed, "a descriptor cannot be watched");
}

Loop::Watch::~Watch() {
  if (!state_) return;
  cancel();
  // Ownership of the descriptor never was Asio's: take it back so that Asio does not close it.
  state_->descriptor.release();
}

Loop::Watch::Watch(Watch&&) noexcept = default;

void Loop::Watch::cancel() {
  state_->cancelled = true;
  boost::system::error_code ignored;
  state_->descriptor.cancel(ignored);
}

void Loop::Watch::wait(Direction direction, Waiter waiter, bool* ready) {
  auto done = [state = state_, waiter, ready](const boost::system::error_code& failed) {
    *ready = !failed && !state->cancelled;
    waiter.resume();
  };
  if (state_->cancelled) {
    asio::post(state_->descriptor.get_executor(), [done] { done({}); });
    return;
  }
  auto what = Descriptor::wait_read;
  if (direction == Direction::write) what = Descriptor::wait_write;
  if (direction == Direction::end) what = Descriptor::wait_error;
  state_->descriptor.async_wait(what, done);
}

void Loop::on_signal(std::initializer_list<int> signals, std::function<void(int)> work) {
  implementation_->on_signal = std::move(work);
  for (int number : signals) implementation_->signals.add(number);
  implementation_->wait_signals();
}

}  // namespace mapcap::broker
