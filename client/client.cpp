#include "mapcap/client.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <span>

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
  return Grant(Fd(fd.release()), granted.rights, std::move(granted.region));
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
    Call call{schema::Create{spec, grant}, grant.has_value(), &progress, {}};
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
  return expect<schema::Granted>(implementation_->create(spec, std::nullopt, progress)).region;
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
    std::move(page.regions.begin(), page.regions.end(), std::back_inserter(regions));
    return std::move(page.next);
  });
  return regions;
}

RegionDetails Client::show(std::string_view name) {
  return expect<RegionDetails>(implementation_->call({schema::Show{std::string(name)}, false, nullptr, {}}));
}

RegionInfo Client::renew(std::string_view name, std::chrono::nanoseconds ttl) {
  auto answer = implementation_->call({schema::Renew{std::string(name), ttl}, false, nullptr, {}});
  return expect<schema::Renewed>(std::move(answer)).region;
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
  return expect<Revoked>(value_or_raise(std::move(answer)));
}

RegionInfo Client::publish(std::string_view name, std::chrono::nanoseconds within) {
  Call call{schema::Publish{std::string(name), within}, false, nullptr, within, schema::kFeaturePublish};
  bool repeated = false;
  auto answer = implementation_->session.call(call, repeated);
  return expect<schema::Published>(value_or_raise(std::move(answer))).region;
}

std::vector<PoolInfo> Client::pools() {
  return expect<schema::PoolList>(implementation_->call({schema::Pools{}, false, nullptr, {}})).pools;
}

std::vector<QuotaInfo> Client::quota() {
  std::vector<QuotaInfo> quotas;
  for_each_page([&](const std::string& cursor) {
    auto page = expect<schema::QuotaList>(implementation_->call({schema::Quota{cursor}, false, nullptr, {}}));
    std::move(page.quotas.begin(), page.quotas.end(), std::back_inserter(quotas));
    return std::move(page.next);
  });
  return quotas;
}

void Client::quota_set(const QuotaSlot& slot, const Limits& limits) {
  expect<schema::Done>(implementation_->call({schema::QuotaSet{slot, limits}, false, nullptr, {}}));
}

void Client::quota_clear(const QuotaSlot& slot) {
  expect<schema::Done>(implementation_->call({schema::QuotaClear{slot}, false, nullptr, {}}));
}

BrokerStatus Client::status() {
  return expect<BrokerStatus>(implementation_->call({schema::AskStatus{}, false, nullptr, {}}));
}

ShutdownResult Client::shutdown(const ShutdownOptions& options) {
  Call call{schema::Shutdown{options}, false, nullptr, {}};
  // Ending regions takes as long as there are regions.
  if (options.end_regions) call.extra_time = std::chrono::nanoseconds::max();
  return expect<ShutdownResult>(implementation_->call(call));
}

ReloadOutcome Client::reload() {
  return expect<ReloadOutcome>(implementation_->call({schema::Reload{}, false, nullptr, {}}));
}

PolicyInForce Client::policy() {
  PolicyInForce policy;
  for (;;) {
    auto piece = expect<schema::PolicyPiece>(
        implementation_->call({schema::PolicyShow{policy.text.size()}, false, nullptr, {}}));
    PolicyInForce& told = piece;
    std::string text;
    if (policy.sha256 == told.sha256)
      text = std::move(policy.text);  // Else another came into force meanwhile.
    const bool in_order = piece.offset == text.size();
    const bool last = told.text.empty();
    if (in_order) text += told.text;
    told.text = std::move(text);
    policy = std::move(told);
    if (!in_order) continue;
    if (policy.text.size() >= piece.size) return policy;
    if (last) throw Error(ErrorCode::malformed, "the broker's policy has no end: ask again");
  }
}

PolicyAnswer Client::explain(const PolicyQuestion& question) {
  return as_answer(expect<schema::Explained>(
      implementation_->call({schema::PolicyExplain{question}, false, nullptr, {}})));
}

EndpointInfo Client::endpoint_create(const EndpointSpec& spec) {
  auto answer = implementation_->call({schema::EndpointCreate{spec}, false, nullptr, {}});
  return expect<schema::EndpointTold>(std::move(answer)).endpoint;
}

std::vector<EndpointInfo> Client::endpoints() {
  std::vector<EndpointInfo> endpoints;
  for_each_page([&](const std::string& cursor) {
    auto page = expect<schema::EndpointListing>(
        implementation_->call({schema::EndpointList{cursor}, false, nullptr, {}}));
    std::move(page.endpoints.begin(), page.endpoints.end(), std::back_inserter(endpoints));
    return std::move(page.next);
  });
  return endpoints;
}

EndpointInfo Client::endpoint(std::string_view id) {
  auto answer = implementation_->call({schema::EndpointShow{std::string(id), false}, false, nullptr, {}});
  return expect<schema::EndpointTold>(std::move(answer)).endpoint;
}

EndpointInfo Client::endpoint_renew(std::string_view id, std::chrono::nanoseconds ttl) {
  auto answer = implementation_->call({schema::EndpointRenew{std::string(id), ttl}, false, nullptr, {}});
  return expect<schema::EndpointTold>(std::move(answer)).endpoint;
}

EndpointEnded Client::endpoint_end(std::string_view id, bool revoke_opened) {
  bool repeated = false;
  // Requests that are under way end first, however long that takes.
  Call call{schema::EndpointEnd{std::string(id), revoke_opened}, false, nullptr,
            std::chrono::nanoseconds::max()};
  auto answer = implementation_->session.call(call, repeated);
  // The restarted broker has finished what the first request began.
  if (answer.has_error() && repeated && answer.error().code == ErrorCode::not_found) return {};
  return expect<EndpointEnded>(value_or_raise(std::move(answer)));
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
