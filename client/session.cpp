#include "client/session.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/text.h"
#include "schema/codec.h"

namespace mapcap {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// A client that never polls must not grow without bound; the newest notices matter most.
constexpr std::size_t kMostNotices = 1024;
constexpr milliseconds kFirstRetry{5};
constexpr milliseconds kLongestRetry{250};
// A poll() must not hold up an event loop: an accepting broker answers a hello at once.
constexpr milliseconds kPollHandshake{1000};
// A request that makes the broker drop the connection again and again is the request's fault.
constexpr int kMostLosses = 8;
// A broker that does not answer must not keep a program from ending.
constexpr milliseconds kGoodbye{1000};

Deadline after(std::chrono::nanoseconds delay) {
  return delay == std::chrono::nanoseconds::max() ? Deadline::max() : Clock::now() + delay;
}

Result<void> watch(BorrowedFd epoll, BorrowedFd fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd.get();
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) return io_error("epoll_ctl", errno);
  return ok();
}

// Reads the counter of an eventfd or timerfd away; it is non-blocking, and empty is fine.
void quiet(BorrowedFd fd) {
  std::uint64_t count = 0;
  [[maybe_unused]] ssize_t got = ::read(fd.get(), &count, sizeof count);
}

/// What the protocol has no way to say is the caller's mistake, told in its words: to the broker it would be a
/// packet that makes no sense, and cost the connection. Errors: `invalid`.
Result<void> check_arguments(const schema::RequestBody& body) {
  const auto said = schema::decode_request(schema::encode(schema::Request{1, body}));
  if (said && said.value().body == body) return ok();
  if (said)
    return failure(ErrorCode::invalid, "a number in the request is larger than any that can be asked for");
  const Failure& wrong = said.error();
  std::string field;
  for (const Detail& detail : wrong.details) {
    if (detail.key == "field") field = detail.value;
  }
  const std::size_t what = wrong.sentence.rfind(field + ": ");
  if (field.empty() || what == std::string::npos) return failure(ErrorCode::invalid, wrong.sentence);
  const std::string name = field.substr(field.rfind('.') + 1);
  return failure(ErrorCode::invalid, name + ": " + wrong.sentence.substr(what + field.size() + 2),
                 {{"field", name}});
}

}  // namespace

Session::Session(ConnectOptions options) : options_(std::move(options)), owner_pid_(::getpid()) {
  if (options_.socket.empty()) options_.socket = default_socket();
  if (options_.program.empty()) options_.program = program_invocation_short_name;
  // A file name may be any bytes; what travels is text.
  options_.program = presentable(options_.program, schema::kMaxClientText);
}

Session::~Session() {
  // A child that fork made has the parent's connection, and no part in its end.
  if (connection_ && made_for_connection_ && ::getpid() == owner_pid_) say_goodbye();
}

void Session::say_goodbye() {
  if ((connection_->welcome().features & schema::kFeatureGoodbye) == 0) return;
  Deadline deadline = after(kGoodbye);
  const std::uint64_t id = ++last_id_;
  if (!connection_->send({id, schema::Goodbye{}}, deadline)) return;
  (void)await_reply({schema::Goodbye{}, false, nullptr, {}}, id, deadline);
}

Result<void> Session::set_up() {
  events_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!events_.valid()) return io_error("epoll_create1", errno);
  notices_ready_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!notices_ready_.valid()) return io_error("eventfd", errno);
  retry_timer_ = Fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!retry_timer_.valid()) return io_error("timerfd_create", errno);
  MAPCAP_TRY_VOID(watch(events_.borrow(), notices_ready_.borrow()));
  return watch(events_.borrow(), retry_timer_.borrow());
}

Result<void> Session::connect() {
  const std::lock_guard lock(mutex_);
  MAPCAP_TRY_VOID(set_up());
  const Deadline until = after(options_.wait_for_broker);
  for (milliseconds delay = kFirstRetry;; delay = std::min(delay * 2, kLongestRetry)) {
    auto connected = try_connect(after(options_.deadline));
    if (connected.has_value()) return ok();
    if (connected.error().code != ErrorCode::unavailable || Clock::now() + delay > until) return connected;
    std::this_thread::sleep_for(delay);
  }
}

Result<void> Session::try_connect(Deadline deadline) {
  schema::Hello hello;
  // Progress of a call comes as a notice too, so they are wanted also where nobody listens to the others.
  hello.features = schema::kFeatureClonePorts | schema::kFeatureNotices | schema::kFeatureGoodbye |
                   schema::kFeaturePublish;
  hello.client = options_.program;
  hello.resume = resume_;
  MAPCAP_TRY(auto connection, Connection::open(options_.socket, hello, deadline));
  MAPCAP_TRY_VOID(watch(events_.borrow(), connection.socket()));
  const bool again = !resume_.empty();
  const schema::Welcome& welcome = connection.welcome();
  resume_ = welcome.resume;
  broker_ = welcome.broker;
  retry_delay_ = milliseconds(0);
  quiet(retry_timer_.borrow());
  if (again) {
    Notice notice;
    notice.kind = Notice::Kind::reconnected;
    notice.resumed = welcome.resumed;
    keep(std::move(notice));
  }
  connection_.emplace(std::move(connection));
  return ok();
}

Result<void> Session::reconnect(Deadline lost_until, Deadline deadline) {
  for (milliseconds delay = kFirstRetry;; delay = std::min(delay * 2, kLongestRetry)) {
    auto connected = try_connect(deadline);
    if (connected.has_value()) return ok();
    if (connected.error().code != ErrorCode::unavailable) return connected;
    if (Clock::now() + delay > std::min(lost_until, deadline)) return connected;
    std::this_thread::sleep_for(delay);
  }
}

void Session::drop_connection() {
  connection_.reset();  // closing takes it out of the epoll set
  if (options_.reconnect_within.count() > 0) retry_at(milliseconds(1));
}

void Session::retry_at(milliseconds delay) {
  itimerspec when{};
  when.it_value.tv_sec = delay.count() / 1000;
  when.it_value.tv_nsec = (delay.count() % 1000) * 1000000;
  ::timerfd_settime(retry_timer_.get(), 0, &when, nullptr);
}

void Session::keep(const schema::Notice& notice) {
  if (notice.kind == schema::NoticeKind::progress) return;  // It belongs to a call.
  Notice told;
  told.kind = static_cast<Notice::Kind>(notice.kind);
  told.region = notice.id.value;
  told.name = notice.name;
  told.within = notice.within;
  keep(std::move(told));
}

void Session::keep(Notice notice) {
  if (!options_.on_notice) return;
  if (notices_.size() == kMostNotices) notices_.pop_front();
  notices_.push_back(std::move(notice));
  signal_notices();
}

void Session::signal_notices() {
  const std::uint64_t one = 1;
  [[maybe_unused]] ssize_t put = ::write(notices_ready_.get(), &one, sizeof one);
}

Result<Answer> Session::await_reply(const Call& call, std::uint64_t id, Deadline& deadline) {
  for (;;) {
    MAPCAP_TRY(auto received, connection_->receive(call.wants_fd, deadline));
    if (auto* notice = std::get_if<schema::Notice>(&received.message)) {
      if (notice->kind != schema::NoticeKind::progress) {
        keep(*notice);
      } else if (notice->request == id) {
        // Work that moves is not late: the deadline counts from its last sign of life.
        if (deadline != Deadline::max()) deadline = std::max(deadline, after(options_.deadline));
        if (call.progress != nullptr && *call.progress)
          (*call.progress)(notice->done.value, notice->total.value);
      }
      continue;
    }
    auto& reply = std::get<schema::Reply>(received.message);
    // Answers to calls that ran into their deadline come late; their descriptors are closed here.
    if (reply.id != 0 && reply.id < id) continue;
    if (reply.id > id)
      return failure(ErrorCode::malformed, "the broker answered a request that was never made");
    if (auto* error = std::get_if<Failure>(&reply.body)) return std::move(*error);
    if (reply.id == 0) return failure(ErrorCode::malformed, "the broker answered without saying to what");
    if (received.dropped_fds)
      return failure(ErrorCode::malformed, "the broker sent a descriptor that was not asked for");
    const auto* granted = std::get_if<schema::Granted>(&reply.body);
    const bool port = std::holds_alternative<schema::ClonePort>(reply.body);
    const auto* endpoint = std::get_if<schema::EndpointTold>(&reply.body);
    const bool with_fd =
        (granted != nullptr && granted->with_fd) || (endpoint != nullptr && endpoint->with_fd);
    const std::size_t announced = port || with_fd ? 1 : 0;
    if (received.fds.size() != announced) {
      return failure(ErrorCode::malformed, "the broker announced " + std::to_string(announced) +
                                               " descriptors and sent " +
                                               std::to_string(received.fds.size()));
    }
    Answer answer{std::move(reply.body), {}, false};
    if (announced == 1) answer.fd = std::move(received.fds.front());
    return answer;
  }
}

Result<Answer> Session::call(const Call& call, bool& repeated) {
  const std::lock_guard lock(mutex_);
  repeated = false;
  if (::getpid() != owner_pid_) {
    return failure(ErrorCode::invalid,
                   "this connection belongs to the parent process; connect again after fork()");
  }
  MAPCAP_TRY_VOID(check_arguments(call.body));
  const auto* create = std::get_if<schema::Create>(&call.body);
  if (create != nullptr && create->lifetime.kind == LifetimeKind::connection) made_for_connection_ = true;
  Deadline deadline = call.extra_time == std::chrono::nanoseconds::max()
                          ? Deadline::max()
                          : after(options_.deadline + call.extra_time);
  std::optional<Deadline> lost_until;
  bool sent = false;
  for (int losses = 0;;) {
    if (!connection_) {
      if (options_.reconnect_within.count() == 0) return connection_lost();
      if (!lost_until) lost_until = after(options_.reconnect_within);
      MAPCAP_TRY_VOID(reconnect(*lost_until, deadline));
    }
    repeated = sent;
    if ((call.needs & ~connection_->welcome().features) != 0) {
      return failure(ErrorCode::unsupported,
                     "the broker (" + broker_ + ") is too old to know what is asked of it; update mapcapd");
    }
    const std::uint64_t id = ++last_id_;
    auto answer = [&]() -> Result<Answer> {
      MAPCAP_TRY_VOID(connection_->send({id, call.body}, deadline));
      sent = true;
      return await_reply(call, id, deadline);
    }();
    if (answer.has_value()) return answer;
    const Failure& error = answer.error();
    if (is_connection_lost(error)) {
      drop_connection();
      if (!lost_until) lost_until = after(options_.reconnect_within);
      if (++losses < kMostLosses && options_.reconnect_within.count() > 0) continue;
    } else if (error.code == ErrorCode::malformed) {
      drop_connection();  // after a packet that made no sense the next one cannot be trusted either
    }
    return answer;
  }
}

bool Session::drain_socket() {
  while (connection_) {
    auto received = connection_->receive_now(false);
    if (received.has_error()) {
      drop_connection();
      return false;
    }
    auto& found = received.assume_value();
    if (!found) return true;
    if (auto* notice = std::get_if<schema::Notice>(&found->message)) keep(*notice);
  }
  return false;
}

std::size_t Session::poll() {
  std::deque<Notice> due;
  {
    const std::lock_guard lock(mutex_);
    if (::getpid() != owner_pid_) return 0;
    if (!drain_socket() && options_.reconnect_within.count() > 0) {
      quiet(retry_timer_.borrow());
      auto connected = try_connect(after(kPollHandshake));
      if (connected.has_error()) {
        retry_delay_ = std::clamp(retry_delay_ * 2, kFirstRetry, kLongestRetry);
        retry_at(retry_delay_);
      }
    }
    quiet(notices_ready_.borrow());
    due.swap(notices_);
  }
  for (const Notice& notice : due) options_.on_notice(notice);
  return due.size();
}

std::string Session::broker() {
  const std::lock_guard lock(mutex_);
  return broker_;
}

}  // namespace mapcap
