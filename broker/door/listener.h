// The public socket: accepts, asks the kernel who it is, charges the connection, starts a session.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "broker/door/connection_shares.h"
#include "broker/door/session.h"
#include "broker/regions/notifier.h"
#include "broker/report/audit.h"
#include "broker/wait/event.h"
#include "policy/endpoint.h"

namespace mapcap::broker {

struct ListeningSocket {
  Fd fd;
  bool refuses_descriptors = false;
};

/// Connections that wait to be accepted. Who comes when all places are taken waits in connect(2), first come,
/// first served among processes: with few places a flood of one process is a wait for one more of its
/// connections, not for thousands.
inline constexpr int kBacklog = 64;

/// Binds and listens on a SOCK_SEQPACKET socket at `path`, mode 0666: who may do what is the policy's
/// business. A stale socket file of a dead broker is replaced. `refuse`: refuse_descriptors. Before threads
/// exist, since it changes the umask for a moment. Errors: `busy` when somebody listens there already,
/// `invalid` for a path that is too long or names something that is no socket, `denied` for a directory where
/// others could put something else in its place, `io`.
Result<ListeningSocket> listen_on(const std::string& path, bool (*refuse)(BorrowedFd));

class Listener final : public Notifier {
 public:
  struct Limits {
    std::size_t connections = 4096;  ///< Of all users; administrators may have kReserved more.
    std::size_t per_user = 64;
  };
  struct Parts {
    Loop& loop;
    FairGate& gate;
    Report& report;
    Audit& audit;
    Quotas& quotas;
    UserNames& names;
    Worker& labels;  ///< Session::Parts
    FileExaminer& examiner;
  };
  Listener(Parts parts, ListeningSocket socket, Limits limits);

  /// Before start(): the handler needs the listener, so it comes later.
  void set_handler(Handler& handler) { handler_ = &handler; }

  void start();
  /// Stops accepting and closes every session.
  void stop();

  /// Serves whoever comes by an endpoint's socket, until that is shut.
  void open(std::shared_ptr<const policy::Endpoint> endpoint, ListeningSocket socket);
  /// Who waits to be accepted is sent away. Whoever was accepted stays. What is not open is fine.
  void shut(std::uint32_t principal);
  /// Closes the sessions of an endpoint that is shut, and returns when none is left: requests that were under
  /// way have ended by then, and what they made is known.
  Task<void> dismiss(std::uint32_t principal);

  /// The handler calls it when a session has ended.
  void forget(Session& session);
  [[nodiscard]] Session* find(SessionId id);
  void set_limits(Limits limits) { limits_ = limits; }
  [[nodiscard]] const Limits& limits() const { return limits_; }
  /// Sessions that are served.
  [[nodiscard]] std::size_t connections() const { return sessions_.size() - ending_; }

  [[nodiscard]] bool connected(SessionId session) const override { return sessions_.contains(session); }
  void notify(const Region& region, const schema::Notice& notice) override;
  void notify(SessionId session, const schema::Notice& notice) override;

 private:
  /// A socket that is listened on: the broker's own, or an endpoint's.
  struct Entrance {
    Entrance(Loop& loop, ListeningSocket socket, FileExaminer& examiner,
             std::shared_ptr<const policy::Endpoint> of)
        : fd(std::move(socket.fd)),
          undertaker(socket.refuses_descriptors ? nullptr : &examiner),
          endpoint(std::move(of)),
          watch(loop, fd.borrow()) {}
    Fd fd;
    FileExaminer* undertaker;  ///< Null where the kernel refuses descriptors.
    std::shared_ptr<const policy::Endpoint> endpoint;
    Loop::Watch watch;
    Ration::Time refusing{0};  ///< What refusals have cost since it last paused for their sake.
  };
  Task<void> accept_all(std::shared_ptr<Entrance> entrance);
  /// Admits or refuses; returns how long to accept nobody, for the sake of everybody else.
  Ration::Time admit(Entrance& entrance, Fd accepted, Meter::Time before);
  /// Takes the socket when it admits.
  Result<void> admit(ClientSocket& socket, policy::Subject::Ids peer, std::uint32_t account);
  Result<void> admit(ClientSocket& socket, const std::shared_ptr<const policy::Endpoint>& endpoint,
                     std::uint32_t peer_uid);
  /// Of an administrator: for whom no limit of the user root holds, which containers may use up.
  Result<void> admit(ClientSocket& socket, policy::Subject administrator);
  void begin(ClientSocket& socket, policy::Subject subject, Session::Whose whose, Charge charge);
  /// Session::share of an endpoint's clients.
  [[nodiscard]] std::uint32_t share_of(const policy::Endpoint& endpoint) const;
  Result<void> find_room(std::uint32_t share);
  /// The limit of each user, whose endpoints' clients count for him too.
  [[nodiscard]] Result<void> check_share(std::uint32_t share, const policy::Endpoint* endpoint) const;
  /// Ends the least missed connection of whoever has most. False when that were unfair.
  bool make_room(std::uint32_t share);
  void refuse(const ClientSocket& socket, const policy::Subject::Ids& peer, std::uint32_t account,
              const policy::Endpoint* endpoint, Failure error);

  Loop& loop_;
  FairGate& gate_;
  Report& report_;
  Audit& audit_;
  Handler* handler_ = nullptr;
  Quotas& quotas_;
  UserNames& names_;
  Worker& labels_;
  FileExaminer& examiner_;
  std::shared_ptr<Entrance> own_;
  std::unordered_map<std::uint32_t, std::shared_ptr<Entrance>> endpoints_;  ///< By principal.
  Event left_;                                                              ///< A session has.
  Limits limits_;
  SessionId next_ = 1;
  ConnectionShares shares_;  ///< By Session::share.
  std::size_t ending_ = 0;   ///< Sessions that made room and are not gone yet.
  std::unordered_map<SessionId, std::shared_ptr<Session>> sessions_;
};

}  // namespace mapcap::broker
