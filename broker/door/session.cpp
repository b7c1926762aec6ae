#include "broker/door/session.h"

#include <sys/socket.h>

#include <utility>
#include <variant>

#include "schema/channel.h"

namespace mapcap::broker {

using schema::Incoming;
using schema::Packet;

namespace {

/// What a packet that no client library sends is charged, beyond what it cost: the second in a row means a
/// rest. Who lives by such packets does not need half of the loop.
constexpr Ration::Time kNonsense = Ration::kBurst;

}  // namespace

Session::Session(Parts parts, SessionId id, ClientSocket socket, policy::Subject subject, Whose whose,
                 Charge connection)
    : parts_(parts),
      id_(id),
      socket_(std::move(socket)),
      subject_(std::move(subject)),
      whose_(whose),
      connection_(std::move(connection)),
      watch_(parts_.loop, socket_.borrow()) {}

void Session::start() {
  spawn(serve(shared_from_this()));
}

void Session::close() {
  closed_ = true;
  watch_.cancel();
  asker_.leave();
  if (!draining_) return;
  // The drain goes on for as long as the holders please; its client, and the place that he takes, need not.
  ::shutdown(socket_.borrow().get(), SHUT_RDWR);
  leave();
}

void Session::leave() {
  if (std::exchange(left_, true)) return;
  connection_.end();
  parts_.handler.ended(*this);
}

Task<void> Session::serve(std::shared_ptr<Session> self) {
  // First, since a peer may be another program by the time that its name is known.
  const auto look = [pid = subject_.pid(), pidfd = subject_.pidfd()] { return policy::label_of(pid, pidfd); };
  subject_.set_label(co_await parts_.labels.run_for(whose_.share, look));
  if (subject_.endpoint() == nullptr) {
    const std::string name = co_await parts_.names.of(subject_.uid());
    subject_.set_name(name);
  }
  // Not in the condition: g++ 12 drops a co_await behind &&.
  for (bool more = true; more && !closed_;) more = co_await answer_next();
  closed_ = true;
  watch_.cancel();
  leave();
  self.reset();
}

Task<bool> Session::answer_next() {
  busy_ = false;
  const bool ready = co_await watch_.readable();
  if (!ready) co_return false;
  // From here on the loop works for this user: receiving and refusing nonsense costs time too.
  busy_ = true;
  FairGate::Turn turn = co_await parts_.gate.turn(whose_.share, id_);
  if (closed_) co_return false;
  if (!greeting_.done) subject_.look_again();
  auto received = socket_.receive(schema::kMaxRequest);
  if (!received) co_return co_await misbehaved(received.error());
  if (const auto* nothing = std::get_if<schema::Wait>(&received.value()))
    co_return *nothing == schema::Wait::would_block;

  Incoming& packet = std::get<Incoming>(received.value());
  Result<schema::Request> request = schema::decode_request(packet.bytes);
  if (!request) co_return co_await misbehaved(request.error());
  const std::uint64_t id = request.value().id;
  // A drain, and a publish, last for as long as the holders please: they must not take their owner's turns by it.
  const auto* revoke = std::get_if<schema::Revoke>(&request.value().body);
  draining_ =
      (revoke != nullptr && revoke->drain) || std::holds_alternative<schema::Publish>(request.value().body);
  if (draining_) turn.end();
  if (std::holds_alternative<schema::Publish>(request.value().body) && !std::exchange(minding_, true))
    spawn(mind_parting(shared_from_this()));
  Delivery delivery = co_await parts_.handler.handle(*this, std::move(request.value()));
  turn.end();
  draining_ = false;
  const bool delivered = co_await deliver(id, std::move(delivery));
  quiet_since_ = parts_.loop.time().now();
  co_return delivered;
}

/// Nothing is read from the socket while a request is under way, so whoever waits in one goes unnoticed otherwise.
Task<void> Session::mind_parting(std::shared_ptr<Session> self) {
  const bool over = co_await watch_.hung_up();
  if (over) asker_.leave();
  self.reset();
}

Task<bool> Session::deliver(std::uint64_t request, Delivery delivery) {
  Packet packet = schema::encode(schema::FromBroker(schema::Reply{request, std::move(delivery.body)}));
  const bool sent = co_await send_packet(std::move(packet), delivery.fd.borrow());
  if (sent) delivery.undo.disarm();
  if (delivery.afterwards) delivery.afterwards();
  co_return sent;
}

Task<bool> Session::send_packet(Packet packet, BorrowedFd fd) {
  Loop::Timer deadline;
  const std::span<const BorrowedFd> fds(&fd, fd.valid() ? 1 : 0);
  for (bool first = true; !closed_; first = false) {
    Result<bool> sent = schema::send(socket_.borrow(), packet, fds);
    if (!sent) co_return false;
    if (sent.value()) co_return true;
    if (first) deadline = parts_.loop.after(kSendDeadline, [this] { close(); });
    const bool writable = co_await watch_.writable();
    if (!writable) co_return false;
  }
  co_return false;
}

Task<bool> Session::misbehaved(Failure error) {
  parts_.gate.charge(whose_.share, kNonsense);
  parts_.report.client_misbehaved(subject_.uid(), subject_.pid(), error);
  // One clear error, if the peer has room for it, and the end.
  const Packet packet = schema::encode(schema::FromBroker(schema::Reply{0, std::move(error)}));
  (void)schema::send(socket_.borrow(), packet);
  co_return false;
}

void Session::notify(const schema::Notice& notice) {
  if (closed_ || !greeting_.wants_notices) return;
  const Meter::Scope scope(parts_.loop.meter(),
                           whose_.share);  // Whoever caused it need not pay for its reader.
  Packet packet = schema::encode(schema::FromBroker(notice));
  if (notices_.empty()) {
    Result<bool> sent = schema::send(socket_.borrow(), packet);
    if (!sent || sent.value()) return;
  }
  if (notices_.size() >= kNotices) notices_.pop_front();
  notices_.push_back(std::move(packet));
  if (!flushing_) {
    flushing_ = true;
    spawn(flush_notices(shared_from_this()));
  }
}

Task<void> Session::flush_notices(std::shared_ptr<Session> self) {
  while (!closed_ && !notices_.empty()) {
    const bool writable = co_await watch_.writable();
    if (!writable || closed_ || notices_.empty()) break;
    Result<bool> sent = schema::send(socket_.borrow(), notices_.front());
    if (!sent) break;
    if (sent.value()) notices_.pop_front();
  }
  flushing_ = false;
  self.reset();
}

}  // namespace mapcap::broker
