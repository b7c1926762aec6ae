#include "broker/door/listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "schema/channel.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83  // Linux 6.16
#endif

namespace mapcap::broker {

using namespace std::chrono_literals;

namespace {

/// Connections beyond the maximum that only administrators may have: who could end the others must get in.
constexpr std::size_t kReserved = 16;
/// Sessions that made room end within their request; this many may be about that.
constexpr std::size_t kEndingAtOnce = 256;
/// Connections that wait to be accepted. Who comes when all places are taken waits in connect(2), first come,
/// first served among processes: with few places a flood of one process is a wait for one more of its
/// connections, not for thousands.
constexpr int kBacklog = 64;
/// What refusing connections may cost in one go. Who is refused waits for nothing, so nothing is lost by
/// pieces that are smaller than those of requests.
constexpr Ration::Time kRefusals = 50us;
/// Of the loop's time, refusals get one part in so many: a flood gains nothing by more, and costs whoever
/// shares its processor. The price: who connects behind a full backlog of them waits three times as long as
/// when they had half.
constexpr int kRefusedShares = 8;

/// Removes the socket file of a broker that is gone; refuses to touch anything else.
Result<void> clear_way(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return ok();
  if (!S_ISSOCK(status.st_mode)) {
    return failure(ErrorCode::invalid, path + " exists and is no socket; choose another --socket path");
  }
  if (schema::connect_to(path)) {
    return failure(ErrorCode::busy,
                   "another broker serves " + path + "; stop it or choose another --socket path");
  }
  if (::unlink(path.c_str()) != 0) return io_error("removing the stale socket " + path, errno);
  return ok();
}

}  // namespace

Result<Fd> listen_on(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return failure(ErrorCode::invalid, "the socket path must have 1 to " +
                                           std::to_string(sizeof address.sun_path - 1) + " bytes: " + path);
  }
  MAPCAP_TRY_VOID(clear_way(path));
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return io_error("socket", errno);
  // SAFETY: sockaddr_un is what the kernel reads behind this sockaddr pointer.
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return io_error("binding the socket " + path + " (does its directory exist?)", errno);
  }
  if (::chmod(path.c_str(), 0666) != 0) return io_error("chmod of the socket " + path, errno);
  if (::listen(socket.get(), kBacklog) != 0) return io_error("listening on " + path, errno);
  const int refuse_descriptors = 0;
  // Inherited by accepted sockets; a kernel that does not know it drops descriptors at receive instead.
  ::setsockopt(socket.get(), SOL_SOCKET, SO_PASSRIGHTS, &refuse_descriptors, sizeof refuse_descriptors);
  return socket;
}

Listener::Listener(Loop& loop, FairGate& gate, Report& report, Quotas& quotas, UserNames& names, Fd socket,
                   Limits limits)
    : loop_(loop),
      gate_(gate),
      report_(report),
      quotas_(quotas),
      names_(names),
      socket_(std::move(socket)),
      limits_(limits),
      watch_(loop, socket_.borrow()) {}

void Listener::start() {
  spawn(accept_all());
}

void Listener::stop() {
  watch_.cancel();
  for (auto& [id, session] : sessions_) session->close();
}

Task<void> Listener::accept_all() {
  for (;;) {
    const bool ready = co_await watch_.readable();
    if (!ready) co_return;
    const Meter::Time before = Meter::worked();
    Fd socket(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      const Ration::Time rest = admit(std::move(socket), before);
      co_await loop_.sleep(rest);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      // No descriptors left: the connection stays in the backlog until some are free again.
      co_await loop_.sleep(50ms);
    }
  }
}

Ration::Time Listener::admit(Fd socket, Meter::Time before) {
  const Result<policy::Subject::Ids> peer = policy::Subject::ids_of_peer(socket.borrow());
  if (!peer) return Ration::kBurst;  // Nobody's time, so everybody's.
  std::uint32_t account = quotas_.account_of(peer.value().uid);
  std::optional<policy::Subject> root;
  if (peer.value().uid == 0) {
    Result<policy::Subject> looked_at = policy::Subject::of_peer(socket.borrow());
    if (looked_at && looked_at.value().administrator()) root = std::move(looked_at.value());
    if (root) account = policy::kAdministrators;
  }
  gate_.charge(account, Meter::worked() - before);
  Result<void> admitted = ok();
  {
    const Meter::Scope scope(loop_.meter(), account);
    admitted = root ? admit(socket, std::move(*root)) : admit(socket, peer.value(), account);
    if (!admitted) refuse(socket, peer.value().uid, std::move(admitted.error()));
  }
  // Everybody waits for that, so never for what this user's requests have cost beside.
  const Ration::Time rest = std::min(gate_.rest(account), Ration::kBurst * Ration::kShares);
  if (admitted) return rest;
  refusing_ += Meter::worked() - before;
  if (refusing_ < kRefusals) return rest;
  return std::max(rest, std::exchange(refusing_, Ration::Time::zero()) * kRefusedShares);
}

Result<void> Listener::admit(Fd& socket, policy::Subject::Ids peer, std::uint32_t account) {
  Amount one;
  one.connections = 1;
  MAPCAP_TRY(Charge charge, quotas_.reserve({peer.uid, peer.gid, ""}, one));
  MAPCAP_TRY_VOID(find_room(account));
  MAPCAP_TRY(policy::Subject subject, policy::Subject::of_peer(socket.borrow()));
  begin(socket, std::move(subject), account, std::move(charge));
  return ok();
}

Result<void> Listener::admit(Fd& socket, policy::Subject administrator) {
  MAPCAP_TRY_VOID(find_room(policy::kAdministrators));
  Amount one;
  one.connections = 1;
  Charge charge = quotas_.take({administrator.uid(), administrator.gid(), ""}, one);
  begin(socket, std::move(administrator), policy::kAdministrators, std::move(charge));
  return ok();
}

void Listener::begin(Fd& socket, policy::Subject subject, std::uint32_t account, Charge charge) {
  const SessionId id = next_++;
  auto session = std::make_shared<Session>(Session::Parts{loop_, gate_, *handler_, report_, names_}, id,
                                           std::move(socket), std::move(subject), account, std::move(charge));
  shares_.add(account);
  sessions_.emplace(id, session);
  session->start();
}

Result<void> Listener::find_room(std::uint32_t account) {
  const bool administrator = account == policy::kAdministrators;
  const std::size_t own = shares_.of(account);
  if (own >= limits_.per_user) {
    const std::string who = administrator ? "the administrator" : "user " + std::to_string(account);
    return failure(ErrorCode::over_quota,
                   who + " has " + std::to_string(own) +
                       " connections; close some or raise max_connections_per_user in the policy",
                   {{"limit", std::to_string(limits_.per_user)}, {"used", std::to_string(own)}});
  }
  const std::size_t served = sessions_.size() - ending_;
  if (served < limits_.connections) return ok();
  if (administrator && served < limits_.connections + kReserved) return ok();
  if (make_room(account)) return ok();
  return failure(ErrorCode::exhausted,
                 "the broker serves its maximum of " + std::to_string(limits_.connections) +
                     " connections; try again later or raise max_connections in the policy",
                 {{"limit", std::to_string(limits_.connections)}, {"used", std::to_string(served)}});
}

bool Listener::make_room(std::uint32_t account) {
  const std::optional<std::uint32_t> yielding = shares_.yields_to(account);
  if (!yielding || ending_ >= kEndingAtOnce) return false;
  Session* least_missed = nullptr;
  for (auto& [id, session] : sessions_) {
    if (session->account() != *yielding || !session->may_yield()) continue;
    if (least_missed == nullptr || session->missed() < least_missed->missed()) least_missed = session.get();
  }
  if (least_missed == nullptr) return false;
  least_missed->yield();
  shares_.remove(*yielding);
  ++ending_;
  return true;
}

void Listener::refuse(const Fd& socket, uid_t uid, Failure error) {
  report_.connection_refused(uid, error);
  (void)schema::send(socket.borrow(), schema::encode(schema::FromBroker(schema::Reply{0, std::move(error)})));
}

void Listener::forget(Session& session) {
  if (session.yielded()) {
    --ending_;
  } else {
    shares_.remove(session.account());
  }
  sessions_.erase(session.id());
}

Session* Listener::find(SessionId id) {
  auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

void Listener::notify(const Region& region, const schema::Notice& notice) {
  for (SessionId watcher : region.watchers) notify(watcher, notice);
}

void Listener::notify(SessionId id, const schema::Notice& notice) {
  if (Session* session = find(id)) session->notify(notice);
}

}  // namespace mapcap::broker
