#include "broker/door/listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "base/fd_path.h"
#include "base/trusted_path.h"
#include "broker/door/audited.h"
#include "schema/channel.h"

namespace mapcap::broker {

using namespace std::chrono_literals;

namespace {

/// Connections beyond the maximum that only administrators may have: who could end the others must get in.
constexpr std::size_t kReserved = 16;
/// Sessions that made room end within their request; this many may be about that.
constexpr std::size_t kEndingAtOnce = 256;
/// What refusing connections may cost in one go. Who is refused waits for nothing, so nothing is lost by
/// pieces that are smaller than those of requests.
constexpr Ration::Time kRefusals = 50us;
/// Of the loop's time, refusals get one part in so many: a flood gains nothing by more, and costs whoever
/// shares its processor. The price: who connects behind a full backlog of them waits three times as long as
/// when they had half.
constexpr int kRefusedShares = 8;

/// Where a socket is to be: the directory, and its name there.
struct Place {
  Fd directory;
  std::string name;

  /// Through the descriptor: nobody can put another directory in its place.
  [[nodiscard]] std::string path() const { return fd_path(directory.borrow(), name); }
};

Result<Place> find_place(const std::string& path) {
  if (path.empty() || path.size() >= sizeof sockaddr_un{}.sun_path) {
    return failure(ErrorCode::invalid, "the socket path must have 1 to " +
                                           std::to_string(sizeof sockaddr_un{}.sun_path - 1) +
                                           " bytes: " + path);
  }
  const std::size_t slash = path.rfind('/');
  const std::string directory =
      slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
  Place place{Fd(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
              slash == std::string::npos ? path : path.substr(slash + 1)};
  if (place.name.empty() || place.name == "." || place.name == "..") {
    return failure(ErrorCode::invalid, "the socket path " + path + " names a directory");
  }
  if (!place.directory.valid()) return io_error("opening the socket's directory " + directory, errno);
  struct stat status {};
  if (::fstat(place.directory.get(), &status) != 0) return io_error("fstat of " + directory, errno);
  if ((status.st_uid != ::geteuid() && status.st_uid != 0) || (status.st_mode & 0022) != 0) {
    return failure(ErrorCode::denied,
                   "others could replace the socket in its directory " + directory +
                       ", which must belong to root and be writable by nobody else: chown root and "
                       "chmod 0755 it, or choose another --socket path");
  }
  if (Result<void> trusted = check_trusted_directory(place.directory.borrow(), directory, ::geteuid());
      !trusted) {
    Failure refused = std::move(trusted).assume_error();
    refused.sentence =
        "the socket's directory " + directory + ": " + refused.sentence + ", or choose another --socket path";
    return refused;
  }
  return place;
}

/// Removes the socket file of a broker that is gone; refuses to touch anything else.
Result<void> clear_way(const Place& place, const std::string& path) {
  struct stat status {};
  if (::fstatat(place.directory.get(), place.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return ok();
  if (!S_ISSOCK(status.st_mode)) {
    return failure(ErrorCode::invalid, path + " exists and is no socket; choose another --socket path");
  }
  if (schema::connect_to(place.path())) {
    return failure(ErrorCode::busy,
                   "another broker serves " + path + "; stop it or choose another --socket path");
  }
  if (::unlinkat(place.directory.get(), place.name.c_str(), 0) != 0) {
    return io_error("removing the stale socket " + path, errno);
  }
  return ok();
}

/// Through the directory's descriptor a path may be longer than an address has room for.
Result<sockaddr_un> address_of(const Place& place, const std::string& path) {
  const std::string way = place.path();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (way.size() >= sizeof address.sun_path) {
    return failure(ErrorCode::invalid, "the socket's name in " + path + " is too long");
  }
  std::memcpy(address.sun_path, way.data(), way.size());
  return address;
}

}  // namespace

Result<ListeningSocket> listen_on(const std::string& path, bool (*refuse)(BorrowedFd)) {
  MAPCAP_TRY(const Place place, find_place(path));
  MAPCAP_TRY_VOID(clear_way(place, path));
  MAPCAP_TRY(const sockaddr_un address, address_of(place, path));
  ListeningSocket listening;
  listening.fd = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int fd = listening.fd.get();
  if (fd < 0) return io_error("socket", errno);
  // Before anybody can connect: connections inherit it as they are made.
  listening.refuses_descriptors = refuse(listening.fd.borrow());
  // Before bind, which makes the name with this mode, less the umask: no name is looked at twice.
  if (::fchmod(fd, 0666) != 0) return io_error("fchmod of the socket", errno);
  const mode_t before = ::umask(0);
  // SAFETY: sockaddr_un is what the kernel reads behind this sockaddr pointer.
  const int bound = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int failed = errno;
  ::umask(before);
  if (bound != 0) return io_error("binding the socket " + path, failed);
  if (::listen(fd, kBacklog) != 0) return io_error("listening on " + path, errno);
  return listening;
}

Listener::Listener(Parts parts, ListeningSocket socket, Limits limits)
    : loop_(parts.loop),
      gate_(parts.gate),
      report_(parts.report),
      audit_(parts.audit),
      quotas_(parts.quotas),
      names_(parts.names),
      labels_(parts.labels),
      examiner_(parts.examiner),
      own_(std::make_shared<Entrance>(loop_, std::move(socket), examiner_, nullptr)),
      left_(loop_),
      limits_(limits) {}

void Listener::start() {
  spawn(accept_all(own_));
}

void Listener::stop() {
  own_->watch.cancel();
  for (const auto& [principal, entrance] : endpoints_) entrance->watch.cancel();
  std::vector<std::shared_ptr<Session>> open;  // Those that drain leave at once.
  for (const auto& [id, session] : sessions_) open.push_back(session);
  for (const std::shared_ptr<Session>& session : open) session->close();
}

void Listener::open(std::shared_ptr<const policy::Endpoint> endpoint, ListeningSocket socket) {
  const std::uint32_t principal = endpoint->principal;
  auto entrance = std::make_shared<Entrance>(loop_, std::move(socket), examiner_, std::move(endpoint));
  endpoints_[principal] = entrance;
  spawn(accept_all(std::move(entrance)));
}

void Listener::shut(std::uint32_t principal) {
  const auto entrance = endpoints_.extract(principal);
  if (entrance.empty()) return;
  // At once; the socket itself is closed when nobody waits for it any more.
  ::shutdown(entrance.mapped()->fd.get(), SHUT_RDWR);
  entrance.mapped()->watch.cancel();
}

Task<void> Listener::dismiss(std::uint32_t principal) {
  for (;;) {
    std::vector<std::shared_ptr<Session>> open;
    for (const auto& [id, session] : sessions_) {
      if (session->account() == principal) open.push_back(session);
    }
    if (open.empty()) co_return;
    for (const std::shared_ptr<Session>& session : open) session->close();
    open.clear();
    co_await left_.wait();
  }
}

Task<void> Listener::accept_all(std::shared_ptr<Entrance> entrance) {
  for (;;) {
    const bool ready = co_await entrance->watch.readable();
    if (!ready) co_return;
    const Meter::Time before = loop_.time().worked();
    Fd socket(::accept4(entrance->fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      const Ration::Time rest = admit(*entrance, std::move(socket), before);
      co_await loop_.sleep(rest);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      // No descriptors left: the connection stays in the backlog until some are free again.
      co_await loop_.sleep(50ms);
    }
  }
}

Ration::Time Listener::admit(Entrance& entrance, Fd accepted, Meter::Time before) {
  const bool by_endpoint = entrance.endpoint != nullptr;
  const Result<policy::Subject::Ids> peer = policy::Subject::ids_of_peer(accepted.borrow());
  Meter::Account payer;
  if (peer) payer = quotas_.account_of(peer.value().uid);
  if (by_endpoint) payer = share_of(*entrance.endpoint);
  ClientSocket socket(std::move(accepted), entrance.undertaker, payer);
  if (!peer) return Ration::kBurst;  // Nobody's time, so everybody's.
  std::uint32_t account = *payer;
  std::optional<policy::Subject> root;
  if (peer.value().uid == 0 && !by_endpoint) {
    Result<policy::Subject> looked_at = policy::Subject::of_peer(socket.borrow());
    if (looked_at && looked_at.value().administrator()) root = std::move(looked_at.value());
    if (root) account = policy::kAdministrators;
  }
  gate_.charge(account, loop_.time().worked() - before);
  Result<void> admitted = ok();
  {
    const Meter::Scope scope(loop_.meter(), account);
    if (by_endpoint) {
      admitted = admit(socket, entrance.endpoint, peer.value().uid);
    } else {
      admitted = root ? admit(socket, std::move(*root)) : admit(socket, peer.value(), account);
    }
    if (!admitted)
      refuse(socket, peer.value(), account, entrance.endpoint.get(), std::move(admitted.error()));
  }
  // Everybody waits for that, so never for what this user's requests have cost beside.
  const Ration::Time rest = std::min(gate_.rest(account), Ration::kBurst * Ration::kShares);
  if (admitted) return rest;
  entrance.refusing += loop_.time().worked() - before;
  if (entrance.refusing < kRefusals) return rest;
  return std::max(rest, std::exchange(entrance.refusing, Ration::Time::zero()) * kRefusedShares);
}

Result<void> Listener::admit(ClientSocket& socket, policy::Subject::Ids peer, std::uint32_t account) {
  if (policy::is_principal(peer.uid)) {
    return failure(ErrorCode::denied,
                   "uid " + std::to_string(peer.uid) +
                       " is of a range that the broker numbers endpoints from: use another");
  }
  Amount one;
  one.connections = 1;
  MAPCAP_TRY(Charge charge, quotas_.reserve({peer.uid, peer.gid, ""}, one));
  MAPCAP_TRY_VOID(check_share(account, nullptr));
  MAPCAP_TRY_VOID(find_room(account));
  MAPCAP_TRY(policy::Subject subject, policy::Subject::of_peer(socket.borrow()));
  begin(socket, std::move(subject), {account, account, peer.uid}, std::move(charge));
  return ok();
}

std::uint32_t Listener::share_of(const policy::Endpoint& endpoint) const {
  return endpoint.maker.administrator() ? endpoint.principal : quotas_.account_of(endpoint.maker.uid());
}

Result<void> Listener::admit(ClientSocket& socket, const std::shared_ptr<const policy::Endpoint>& endpoint,
                             std::uint32_t peer_uid) {
  const std::uint32_t principal = endpoint->principal;
  Amount one;
  one.connections = 1;
  MAPCAP_TRY(Charge charge, quotas_.reserve({principal, principal, ""}, one));
  const std::uint32_t share = share_of(*endpoint);
  MAPCAP_TRY_VOID(check_share(share, endpoint.get()));
  MAPCAP_TRY_VOID(find_room(share));
  MAPCAP_TRY(policy::Subject subject, policy::Subject::by_endpoint(endpoint, socket.borrow()));
  begin(socket, std::move(subject), {principal, share, peer_uid}, std::move(charge));
  return ok();
}

Result<void> Listener::admit(ClientSocket& socket, policy::Subject administrator) {
  MAPCAP_TRY_VOID(check_share(policy::kAdministrators, nullptr));
  MAPCAP_TRY_VOID(find_room(policy::kAdministrators));
  Amount one;
  one.connections = 1;
  Charge charge = quotas_.take({administrator.uid(), administrator.gid(), ""}, one);
  begin(socket, std::move(administrator), {policy::kAdministrators, policy::kAdministrators, 0},
        std::move(charge));
  return ok();
}

void Listener::begin(ClientSocket& socket, policy::Subject subject, Session::Whose whose, Charge charge) {
  const SessionId id = next_++;
  auto session =
      std::make_shared<Session>(Session::Parts{loop_, gate_, *handler_, report_, names_, labels_}, id,
                                std::move(socket), std::move(subject), whose, std::move(charge));
  shares_.add(whose.share);
  sessions_.emplace(id, session);
  session->start();
}

Result<void> Listener::check_share(std::uint32_t share, const policy::Endpoint* endpoint) const {
  const std::size_t has = shares_.of(share);
  const bool for_a_maker = endpoint != nullptr && !endpoint->maker.administrator();
  // The maker's own come last, or clients of his endpoints could keep him from ending them.
  if (has < (for_a_maker ? for_endpoints(limits_.per_user) : limits_.per_user)) return ok();
  std::string who = share == policy::kAdministrators ? "the administrator" : "user " + std::to_string(share);
  if (endpoint != nullptr)
    who = for_a_maker ? who + ", who made endpoint " + endpoint->id + "," : "endpoint " + endpoint->id;
  return failure(ErrorCode::over_quota,
                 who + " has " + std::to_string(has) +
                     " connections; close some or raise max_connections_per_user in the policy",
                 {{"limit", std::to_string(limits_.per_user)}, {"used", std::to_string(has)}});
}

Result<void> Listener::find_room(std::uint32_t share) {
  const bool administrator = share == policy::kAdministrators;
  const std::size_t served = sessions_.size() - ending_;
  if (served < limits_.connections) return ok();
  if (administrator && served < limits_.connections + kReserved) return ok();
  if (make_room(share)) return ok();
  return failure(ErrorCode::exhausted,
                 "the broker serves its maximum of " + std::to_string(limits_.connections) +
                     " connections; try again later or raise max_connections in the policy",
                 {{"limit", std::to_string(limits_.connections)}, {"used", std::to_string(served)}});
}

bool Listener::make_room(std::uint32_t share) {
  const std::optional<std::uint32_t> yielding = shares_.yields_to(share);
  if (!yielding || ending_ >= kEndingAtOnce) return false;
  Session* least_missed = nullptr;
  for (auto& [id, session] : sessions_) {
    if (session->share() != *yielding || !session->may_yield()) continue;
    if (least_missed == nullptr || session->missed() < least_missed->missed()) least_missed = session.get();
  }
  if (least_missed == nullptr) return false;
  shares_.remove(*yielding);
  ++ending_;
  least_missed->yield();  // May be gone by now.
  return true;
}

void Listener::refuse(const ClientSocket& socket, const policy::Subject::Ids& peer, std::uint32_t account,
                      const policy::Endpoint* endpoint, Failure error) {
  report_.connection_refused(peer.uid, error);
  AuditRecord record;
  record.who = actor_of(peer, account, endpoint);
  record.verb = "connect";
  judge_record(record, {}, &error);
  audit_.note(std::move(record));
  (void)schema::send(socket.borrow(), schema::encode(schema::FromBroker(schema::Reply{0, std::move(error)})));
}

void Listener::forget(Session& session) {
  if (session.yielded()) {
    --ending_;
  } else {
    shares_.remove(session.share());
  }
  sessions_.erase(session.id());
  left_.notify();
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
