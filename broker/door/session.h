// One connection: receives a request, waits for its turn, has it handled, sends the reply, and only then
// receives the next one. What a client sends ahead waits in its own socket; what it does not read fills its
// own socket. So a connection costs the broker one request, one reply and a few notices, whatever its peer
// does.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <tuple>
#include <utility>

#include "broker/books/connections.h"
#include "broker/books/directory.h"
#include "broker/door/client_socket.h"
#include "broker/door/user_names.h"
#include "broker/regions/asker.h"
#include "broker/regions/delivery.h"
#include "broker/report/report.h"
#include "broker/turns/fair_gate.h"
#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"
#include "policy/subject.h"
#include "schema/codec.h"

namespace mapcap::broker {

class Session;

/// Where requests go (dispatch.h). The session outlives each call.
class Handler {
 public:
  virtual ~Handler() = default;
  virtual Task<Delivery> handle(Session& session, schema::Request request) = 0;
  virtual void ended(Session& session) = 0;
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  struct Parts {
    Loop& loop;
    FairGate& gate;
    Handler& handler;
    Report& report;
    UserNames& names;
    Worker& labels;  ///< Asks the kernel what peers look like.
  };
  /// Whose it is, as the listener found when it let it in.
  struct Whose {
    std::uint32_t account = 0;
    std::uint32_t share = 0;
    std::uint32_t peer_uid =
        0;  ///< Of the process that connected: of an endpoint's client no authority, for the audit.
  };
  Session(Parts parts, SessionId id, ClientSocket socket, policy::Subject subject, Whose whose,
          Charge connection);

  /// Serves until the peer leaves, breaks the protocol or close() is called; then tells the handler. Keeps
  /// itself alive meanwhile. Of a drain that is under way then, nothing but the drain is left; a publish ends with it.
  void start();
  void close();

  /// Ends in favour of somebody who has fewer connections. As after a broker's death the client may connect
  /// again, if there is room.
  void yield() {
    yielded_ = true;
    close();
  }
  [[nodiscard]] bool yielded() const { return yielded_; }
  [[nodiscard]] bool may_yield() const { return !closed_; }
  /// How much a session is missed, in order: one that never said hello least, one with a request under way
  /// most, and of idle ones that which was quiet for longer less.
  [[nodiscard]] std::tuple<bool, bool, TimeSource::Time> missed() const {
    return {greeting_.done, busy_, quiet_since_};
  }

  /// Sends at once or queues; the oldest of more than kNotices is dropped.
  void notify(const schema::Notice& notice);

  [[nodiscard]] SessionId id() const { return id_; }
  [[nodiscard]] const policy::Subject& subject() const { return subject_; }
  /// Who stands behind the uid now, for denials.
  void set_lender(std::shared_ptr<const policy::Lender> lender) { subject_.set_lender(std::move(lender)); }
  /// The user behind the subject (policy/subordinates.h); an administrator's is policy::kAdministrators.
  [[nodiscard]] std::uint32_t account() const { return whose_.account; }
  /// Whose turns it takes, whose time it spends, and whose connection it is where there are not enough: the account,
  /// but of an endpoint its maker's, so that whoever makes many is still one user. An administrator's are one each.
  /// Stays what it was when the session began, whoever stands behind the maker later.
  [[nodiscard]] std::uint32_t share() const { return whose_.share; }
  [[nodiscard]] std::uint32_t peer_uid() const { return whose_.peer_uid; }
  /// Of the request under way.
  [[nodiscard]] Asker& asker() { return asker_; }

  /// Set by hello.
  struct Greeting {
    bool done = false;
    bool wants_notices = false;
    Token token{};
  };
  [[nodiscard]] const Greeting& greeting() const { return greeting_; }
  void greet(const Greeting& greeting) { greeting_ = greeting; }
  /// The regions that this session is to be told about.
  std::set<RegionId>& watched() { return watched_; }

 private:
  static constexpr std::size_t kNotices = 64;
  /// A peer that does not read its reply for so long is gone: its grant must not wait in the queue for ever.
  static constexpr std::chrono::seconds kSendDeadline{30};

  Task<void> serve(std::shared_ptr<Session> self);
  /// Once: tells the handler that it has ended.
  void leave();
  Task<bool> answer_next();
  Task<bool> deliver(std::uint64_t request, Delivery delivery);
  Task<bool> send_packet(schema::Packet packet, BorrowedFd fd);
  Task<void> flush_notices(std::shared_ptr<Session> self);
  Task<void> mind_parting(std::shared_ptr<Session> self);
  Task<bool> misbehaved(Failure error);

  Parts parts_;
  SessionId id_;
  ClientSocket socket_;
  policy::Subject subject_;
  Whose whose_;
  Charge connection_;
  Loop::Watch watch_;
  Greeting greeting_;
  std::set<RegionId> watched_;
  std::deque<schema::Packet> notices_;
  bool flushing_ = false;
  bool closed_ = false;
  bool yielded_ = false;
  bool left_ = false;
  bool busy_ = false;      ///< A request is under way.
  bool draining_ = false;  ///< It is a revoke or a publish that waits for holders.
  bool minding_ = false;   ///< Its peer's end is waited for.
  Asker asker_;
  TimeSource::Time quiet_since_ = parts_.loop.time().now();
};

}  // namespace mapcap::broker
