#include "mapcap/client.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <span>

#include "client/convert.h"
#include "client/raise.h"
#include "client/session.h"
#include "schema/channel.h"

namespace mapcap {
namespace {

[[noreturn]] void raise_other_answer() {
  throw Error(ErrorCode::malformed, "the broker answered with something that was not asked for");
}

// The one kind of answer that a request has.
template <typename Body>
Body expect(Answer&& answer) {
  if (auto* body = std::get_if<Body>(&answer.body)) return std::move(*body);
  raise_other_answer();
}

Grant to_grant(Answer&& answer) {
  Fd fd = std::move(answer.fd);
  auto granted = expect<schema::Granted>(std::move(answer));
  if (!fd.valid()) throw Error(ErrorCode::malformed, "the broker granted access and sent no descriptor");
  return Grant(Fd(fd.release()), granted.rights, from_wire(granted.region));
}

/// Ports that one clone is tried with.
constexpr int kMostPorts = 5;

bool port_is_gone(const Failure& error) {
  return std::any_of(error.details.begin(), error.details.end(),
                     [](const Detail& detail) { return detail.key == "port"; });
}

/// What the packet says does not matter. A port that is gone already is told by the broker.
Result<void> send_file(BorrowedFd port, BorrowedFd file) {
  constexpr std::array<std::byte, 1> kFile{std::byte{'f'}};
  auto sent = schema::send(port, kFile, std::span(&file, 1));
  if (sent.has_value()) return ok();
  for (const Detail& detail : sent.error().details) {
    const bool gone = detail.value == std::to_string(EPIPE) || detail.value == std::to_string(ECONNRESET);
    if (detail.key == "errno" && gone) return ok();
  }
  return sent.error();
}

// Pages until there is no next one. A broker that names the same page twice would keep us here for ever.
template <typename FetchPage>
void for_each_page(FetchPage fetch) {
  std::string cursor;
  for (;;) {
    std::string next = fetch(cursor);
    if (next.empty()) return;
    if (next == cursor) throw Error(ErrorCode::malformed, "the broker's listing does not advance");
    cursor = std::move(next);
  }
}

}  // namespace

std::string default_socket() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): getenv races only with setenv, which the caller owns.
  const char* path = std::getenv("MAPCAP_SOCKET");
  return path != nullptr && *path != '\0' ? path : "/run/mapcap/mapcap.sock";
}

class Client::Implementation {
 public:
  explicit Implementation(ConnectOptions options) : session(std::move(options)) {}

  Answer call(const Call& call) {
    bool repeated = false;
    return value_or_raise(session.call(call, repeated));
  }

  Answer create(const RegionSpec& spec, std::optional<Access> grant, const Progress& progress) {
    bool repeated = false;
    Call call{to_wire(spec, grant), grant.has_value(), &progress, {}};
    auto answer = session.call(call, repeated);
    if (answer.has_error() && repeated && answer.error().code == ErrorCode::exists) {
      throw Error(
          ErrorCode::exists,
          "the broker restarted while " + spec.name +
              " was being created, and now it exists: it may be yours or somebody else's; look at it with "
              "show, or choose another name",
          {{"ambiguous", "true"}});
    }
    return value_or_raise(std::move(answer));
  }

  Session session;
};

Client::Client(std::unique_ptr<Implementation> implementation) : implementation_(std::move(implementation)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Client Client::connect(ConnectOptions options) {
  auto implementation = std::make_unique<Implementation>(std::move(options));
  value_or_raise(implementation->session.connect());
  return Client(std::move(implementation));
}

RegionInfo Client::create(const RegionSpec& spec, const Progress& progress) {
  return from_wire(expect<schema::Granted>(implementation_->create(spec, std::nullopt, progress)).region);
}

Grant Client::create(const RegionSpec& spec, Access rights, const Progress& progress) {
  return to_grant(implementation_->create(spec, rights, progress));
}

Grant Client::open(std::string_view name, Access rights) {
  return to_grant(implementation_->call({schema::Open{std::string(name), rights}, true, nullptr, {}}));
}

std::vector<RegionInfo> Client::list(std::string_view glob) {
  std::vector<RegionInfo> regions;
  for_each_page([&](const std::string& cursor) {
    auto page = expect<schema::Listing>(
        implementation_->call({schema::List{std::string(glob), cursor, 0}, false, nullptr, {}}));
    for (const schema::RegionInfo& region : page.regions) regions.push_back(from_wire(region));
    return std::move(page.next);
  });
  return regions;
}

RegionDetails Client::show(std::string_view name) {
  return from_wire(
      expect<schema::Shown>(implementation_->call({schema::Show{std::string(name)}, false, nullptr, {}})));
}

RegionInfo Client::renew(std::string_view name, std::chrono::nanoseconds ttl) {
  auto answer = implementation_->call({schema::Renew{std::string(name), ttl}, false, nullptr, {}});
  return from_wire(expect<schema::Renewed>(std::move(answer)).region);
}

Revoked Client::revoke(std::string_view name, const RevokeOptions& options) {
  Call call{schema::Revoke{std::string(name), options.drain, options.within}, false, &options.progress, {}};
  // Draining takes as long as the holders were given, which comes on top of the deadline for the rest.
  if (options.drain)
    call.extra_time = options.within.count() > 0 ? options.within : std::chrono::nanoseconds::max();
  bool repeated = false;
  auto answer = implementation_->session.call(call, repeated);
  // The restarted broker has finished what the first request began.
  if (answer.has_error() && repeated && answer.error().code == ErrorCode::not_found) return {};
  auto revoked = expect<schema::Revoked>(value_or_raise(std::move(answer)));
  return {revoked.held.value, revoked.grants};
}

RegionInfo Client::publish(std::string_view name, std::chrono::nanoseconds within) {
  Call call{schema::Publish{std::string(name), within}, false, nullptr, within, schema::kFeaturePublish};
  bool repeated = false;
  auto answer = implementation_->session.call(call, repeated);
  return from_wire(expect<schema::Published>(value_or_raise(std::move(answer))).region);
}

std::vector<PoolInfo> Client::pools() {
  auto list = expect<schema::PoolList>(implementation_->call({schema::Pools{}, false, nullptr, {}}));
  std::vector<PoolInfo> pools;
  for (const schema::PoolInfo& pool : list.pools) pools.push_back(from_wire(pool));
  return pools;
}

std::vector<QuotaInfo> Client::quota() {
  std::vector<QuotaInfo> quotas;
  for_each_page([&](const std::string& cursor) {
    auto page = expect<schema::QuotaList>(implementation_->call({schema::Quota{cursor}, false, nullptr, {}}));
    for (const schema::QuotaInfo& quota : page.quotas) quotas.push_back(from_wire(quota));
    return std::move(page.next);
  });
  return quotas;
}

void Client::quota_set(const QuotaSlot& slot, const Limits& limits) {
  schema::QuotaSet request{slot.subject, slot.id, slot.pool, limits};
  expect<schema::Done>(implementation_->call({std::move(request), false, nullptr, {}}));
}

void Client::quota_clear(const QuotaSlot& slot) {
  schema::QuotaClear request{slot.subject, slot.id, slot.pool};
  expect<schema::Done>(implementation_->call({std::move(request), false, nullptr, {}}));
}

BrokerStatus Client::status() {
  return from_wire(expect<schema::Status>(implementation_->call({schema::AskStatus{}, false, nullptr, {}})));
}

ShutdownResult Client::shutdown(const ShutdownOptions& options) {
  Call call{schema::Shutdown{options.end_regions, options.only_tell}, false, nullptr, {}};
  // Ending regions takes as long as there are regions.
  if (options.end_regions) call.extra_time = std::chrono::nanoseconds::max();
  const auto down = expect<schema::ShuttingDown>(implementation_->call(call));
  return {down.regions, down.users, down.bytes.value, down.lasting, down.quarantined};
}

ReloadOutcome Client::reload() {
  return from_wire(expect<schema::Reloaded>(implementation_->call({schema::Reload{}, false, nullptr, {}})));
}

PolicyInForce Client::policy() {
  PolicyInForce policy;
  for (;;) {
    auto piece = expect<schema::PolicyInForce>(
        implementation_->call({schema::PolicyShow{policy.text.size()}, false, nullptr, {}}));
    if (policy.sha256 != piece.sha256) policy.text.clear();  // Another came into force meanwhile.
    const bool in_order = piece.offset == policy.text.size();
    policy.file = std::move(piece.file);
    policy.sha256 = std::move(piece.sha256);
    policy.loaded_unix = std::chrono::nanoseconds(piece.loaded_unix_ns);
    policy.loaded_by = std::move(piece.loaded_by);
    policy.pools = piece.pools;
    policy.rules = piece.rules;
    policy.quotas = piece.quotas;
    if (!in_order) continue;
    policy.text += piece.text;
    if (policy.text.size() >= piece.size) return policy;
    if (piece.text.empty()) throw Error(ErrorCode::malformed, "the broker's policy has no end: ask again");
  }
}

PolicyAnswer Client::explain(const PolicyQuestion& question) {
  schema::PolicyExplain ask{question.uid, question.verb, to_wire(question.region, question.rights),
                            question.ttl};
  return from_wire(expect<schema::Explained>(implementation_->call({std::move(ask), false, nullptr, {}})));
}

EndpointInfo Client::endpoint_create(const EndpointSpec& spec) {
  auto answer = implementation_->call({schema::EndpointCreate{to_wire(spec)}, false, nullptr, {}});
  return from_wire(expect<schema::EndpointTold>(std::move(answer)).endpoint);
}

std::vector<EndpointInfo> Client::endpoints() {
  std::vector<EndpointInfo> endpoints;
  for_each_page([&](const std::string& cursor) {
    auto page = expect<schema::EndpointListing>(
        implementation_->call({schema::EndpointList{cursor}, false, nullptr, {}}));
    for (const schema::EndpointInfo& one : page.endpoints) endpoints.push_back(from_wire(one));
    return std::move(page.next);
  });
  return endpoints;
}

EndpointInfo Client::endpoint(std::string_view id) {
  auto answer = implementation_->call({schema::EndpointShow{std::string(id), false}, false, nullptr, {}});
  return from_wire(expect<schema::EndpointTold>(std::move(answer)).endpoint);
}

EndpointInfo Client::endpoint_renew(std::string_view id, std::chrono::nanoseconds ttl) {
  auto answer = implementation_->call({schema::EndpointRenew{std::string(id), ttl}, false, nullptr, {}});
  return from_wire(expect<schema::EndpointTold>(std::move(answer)).endpoint);
}

EndpointEnded Client::endpoint_end(std::string_view id) {
  bool repeated = false;
  // Requests that are under way end first, however long that takes.
  Call call{schema::EndpointEnd{std::string(id)}, false, nullptr, std::chrono::nanoseconds::max()};
  auto answer = implementation_->session.call(call, repeated);
  // The restarted broker has finished what the first request began.
  if (answer.has_error() && repeated && answer.error().code == ErrorCode::not_found) return {};
  const auto ended = expect<schema::EndpointEnded>(value_or_raise(std::move(answer)));
  return {ended.revoked, ended.kept, ended.held.value};
}

Fd Client::endpoint_directory(std::string_view id) {
  auto answer = implementation_->call({schema::EndpointShow{std::string(id), true}, true, nullptr, {}});
  Fd directory = std::move(answer.fd);
  expect<schema::EndpointTold>(std::move(answer));
  if (!directory.valid())
    throw Error(ErrorCode::malformed, "the broker told of an endpoint and sent no descriptor");
  return directory;
}

Grant Client::clone(int fd, Access rights) {
  if (::fcntl(fd, F_GETFD) < 0) {
    throw Error(ErrorCode::invalid,
                "descriptor " + std::to_string(fd) + " is not open: there is nothing to clone");
  }
  for (int attempt = 1;; ++attempt) {
    auto answer =
        implementation_->call({schema::AskClonePort{}, true, nullptr, {}, schema::kFeatureClonePorts});
    const Fd port = std::move(answer.fd);
    const auto ticket = expect<schema::ClonePort>(std::move(answer)).ticket;
    value_or_raise(send_file(port.borrow(), BorrowedFd(fd)));
    bool repeated = false;
    auto granted = implementation_->session.call(
        {schema::CloneFd{rights, ticket}, true, nullptr, {}, schema::kFeatureClonePorts}, repeated);
    // A port ends with the broker, and with the process that reads it.
    const bool again = granted.has_error() && port_is_gone(granted.error()) && attempt < kMostPorts;
    if (!again) return to_grant(value_or_raise(std::move(granted)));
  }
}

int Client::fd() const {
  return implementation_->session.event_fd();
}
std::size_t Client::poll() {
  return implementation_->session.poll();
}
std::string Client::broker() const {
  return implementation_->session.broker();
}
const std::string& Client::socket() const {
  return implementation_->session.path();
}

}  // namespace mapcap
