// Replies and notices to packets and back: one function a struct each way.
#include <algorithm>

#include "schema/codec.h"
#include "schema/codec_status.h"
#include "schema/wire.h"

namespace mapcap::schema {
namespace codec {
namespace {

using codec::read;
using codec::read_into;
using codec::write;

constexpr std::size_t kMaxDetails = 32;
constexpr std::size_t kMaxDetailKey = 64;
constexpr std::size_t kMaxDetailValue = 512;

// ---- what else comes in lists

Result<Detail> read(wire::Error::Detail::Reader reader) {
  Detail detail;
  MAPCAP_TRY(detail.key, read_text(reader.getKey(), "error.detail.key", kMaxDetailKey));
  MAPCAP_TRY(detail.value, read_text(reader.getValue(), "error.detail.value", kMaxDetailValue));
  return detail;
}
void write(const Detail& detail, wire::Error::Detail::Builder builder) {
  builder.setKey(as_text(presentable(detail.key, kMaxDetailKey)));
  builder.setValue(as_text(presentable(detail.value, kMaxDetailValue)));
}

Result<Holder> read(wire::Shown::Holder::Reader reader) {
  MAPCAP_TRY(const Access rights, read_access(reader.getRights(), "holder.rights"));
  MAPCAP_TRY(std::string endpoint, read_text(reader.getEndpoint(), "holder.endpoint", kMaxWord));
  MAPCAP_TRY(std::string unit, read_text(reader.getUnit(), "holder.unit", kMaxUnit));
  MAPCAP_TRY(std::string container, read_text(reader.getContainer(), "holder.container", kMaxUnit));
  MAPCAP_TRY(std::string cgroup, read_text(reader.getCgroup(), "holder.cgroup", kMaxPath));
  return Holder{reader.getUid(),   rights,          reader.getCount(),    std::move(endpoint),
                reader.getEnded(), std::move(unit), std::move(container), std::move(cgroup)};
}
void write(const Holder& holder, wire::Shown::Holder::Builder builder) {
  builder.setUid(holder.uid);
  builder.setRights(as_wire<wire::Access>(holder.rights));
  builder.setCount(holder.count);
  builder.setEndpoint(as_text(holder.endpoint));
  builder.setEnded(holder.ended);
  builder.setUnit(as_text(holder.unit));
  builder.setContainer(as_text(holder.container));
  builder.setCgroup(as_text(holder.cgroup));
}

// ---- replies

}  // namespace

/// Out-parameters, because Result<Error> and Result<ReplyBody> could not say which of the two they hold.
Result<void> read_into(Failure& result, wire::Error::Reader reader) {
  const std::uint16_t code = reader.getCode();
  if (code < static_cast<std::uint16_t>(ErrorCode::malformed) ||
      code > static_cast<std::uint16_t>(ErrorCode::unavailable)) {
    return malformed("error.code", "unknown code " + std::to_string(code));
  }
  result.code = static_cast<ErrorCode>(code);
  MAPCAP_TRY(result.sentence, read_text(reader.getSentence(), "error.sentence", kMaxSentence));
  const auto details = reader.getDetails();
  if (details.size() > kMaxDetails) {
    return malformed("error.details", std::to_string(details.size()) + ", at most 32 are allowed");
  }
  MAPCAP_TRY(result.details, read_list<Detail>(details, [](auto one) { return read(one); }));
  return ok();
}
/// A sentence may quote a path or a device: whatever is in it, the client can read the reply.
void write(const Failure& value, wire::Error::Builder builder) {
  builder.setCode(static_cast<std::uint16_t>(value.code));
  builder.setSentence(as_text(presentable(value.sentence, kMaxSentence)));
  const std::size_t count = std::min(value.details.size(), kMaxDetails);
  auto details = builder.initDetails(static_cast<unsigned>(count));
  for (std::size_t i = 0; i < count; ++i) write(value.details[i], details[static_cast<unsigned>(i)]);
}

namespace {

Result<Welcome> read(wire::Welcome::Reader reader) {
  Welcome welcome;
  welcome.version = reader.getVersion();
  welcome.features = reader.getFeatures();
  MAPCAP_TRY(welcome.broker, read_text(reader.getBroker(), "welcome.broker", kMaxClientText));
  MAPCAP_TRY(welcome.resume, read_resume(reader.getResume(), "welcome.resume"));
  MAPCAP_TRY(welcome.grace, read_duration(reader.getGraceNs(), "welcome.grace"));
  welcome.resumed = reader.getResumed();
  return welcome;
}
void write(const Welcome& welcome, wire::Welcome::Builder builder) {
  builder.setVersion(welcome.version);
  builder.setFeatures(welcome.features);
  builder.setBroker(as_text(welcome.broker));
  builder.setResume(as_data(welcome.resume));
  builder.setGraceNs(welcome.grace.count());
  builder.setResumed(welcome.resumed);
}

Result<Granted> read(wire::Granted::Reader reader) {
  Granted granted;
  MAPCAP_TRY(granted.region, read(reader.getRegion()));
  MAPCAP_TRY(granted.rights, read_access(reader.getRights(), "granted.rights"));
  granted.with_fd = reader.getWithFd();
  return granted;
}
void write(const Granted& granted, wire::Granted::Builder builder) {
  write(granted.region, builder.initRegion());
  builder.setRights(as_wire<wire::Access>(granted.rights));
  builder.setWithFd(granted.with_fd);
}

Result<Listing> read(wire::Listing::Reader reader) {
  Listing listing;
  MAPCAP_TRY(listing.regions, read_list<RegionInfo>(reader.getRegions(), [](auto one) { return read(one); }));
  MAPCAP_TRY(listing.next, read_text(reader.getNext(), "listing.next", kMaxNameText));
  return listing;
}
void write(const Listing& listing, wire::Listing::Builder builder) {
  write_list(listing.regions, builder.initRegions(count_of(listing.regions)),
             [](const auto& one, auto to) { write(one, to); });
  builder.setNext(as_text(listing.next));
}

Result<RegionDetails> read(wire::Shown::Reader reader) {
  RegionDetails shown;
  MAPCAP_TRY(shown.region, read(reader.getRegion()));
  MAPCAP_TRY(shown.holders, read_list<Holder>(reader.getHolders(), [](auto one) { return read(one); }));
  return shown;
}
void write(const RegionDetails& shown, wire::Shown::Builder builder) {
  write(shown.region, builder.initRegion());
  write_list(shown.holders, builder.initHolders(count_of(shown.holders)),
             [](const auto& one, auto to) { write(one, to); });
}

Result<PoolList> read(wire::PoolList::Reader reader) {
  MAPCAP_TRY(std::vector<PoolInfo> pools,
             read_list<PoolInfo>(reader.getPools(), [](auto one) { return read(one); }));
  return PoolList{std::move(pools)};
}
Result<QuotaList> read(wire::QuotaList::Reader reader) {
  QuotaList list;
  MAPCAP_TRY(list.quotas, read_list<QuotaInfo>(reader.getQuotas(), [](auto one) { return read(one); }));
  MAPCAP_TRY(list.next, read_text(reader.getNext(), "quotas.next", kMaxNameText));
  return list;
}

ShutdownResult read(wire::ShuttingDown::Reader reader) {
  return {reader.getRegions(), reader.getUsers(), reader.getBytes(), reader.getLasting(),
          reader.getQuarantined()};
}
void write(const ShutdownResult& down, wire::ShuttingDown::Builder builder) {
  builder.setRegions(down.regions);
  builder.setUsers(down.users);
  builder.setBytes(down.bytes);
  builder.setLasting(down.lasting);
  builder.setQuarantined(down.quarantined);
}

template <typename Value>
Result<void> put(ReplyBody& body, Result<Value> value) {
  MAPCAP_TRY(body, std::move(value));
  return ok();
}

Result<void> read_into(ReplyBody& body, wire::Reply::Body::Reader reader) {
  using Wire = wire::Reply::Body;
  switch (reader.which()) {
    case Wire::ERROR:
      return read_into(body.emplace<Failure>(), reader.getError());
    case Wire::WELCOME:
      return put(body, read(reader.getWelcome()));
    case Wire::GRANTED:
      return put(body, read(reader.getGranted()));
    case Wire::LISTING:
      return put(body, read(reader.getListing()));
    case Wire::SHOWN:
      return put(body, read(reader.getShown()));
    case Wire::RENEWED: {
      MAPCAP_TRY(body.emplace<Renewed>().region, read(reader.getRenewed()));
      return ok();
    }
    case Wire::REVOKED: {
      const auto revoked = reader.getRevoked();
      body = Revoked{revoked.getHeld(), revoked.getGrants()};
      return ok();
    }
    case Wire::POOLS:
      return put(body, read(reader.getPools()));
    case Wire::QUOTAS:
      return put(body, read(reader.getQuotas()));
    case Wire::DONE:
      body = Done{};
      return ok();
    case Wire::CLONE_PORT:
      body = ClonePort{reader.getClonePort().getTicket()};
      return ok();
    case Wire::SHUTTING_DOWN:
      body = read(reader.getShuttingDown());
      return ok();
    case Wire::STATUS:
      return put(body, read_status(reader.getStatus()));
    case Wire::RELOADED:
      return put(body, read(reader.getReloaded()));
    case Wire::POLICY:
      return put(body, read(reader.getPolicy()));
    case Wire::EXPLAINED:
      return put(body, read(reader.getExplained()));
    case Wire::PUBLISHED: {
      MAPCAP_TRY(body.emplace<Published>().region, read(reader.getPublished()));
      return ok();
    }
    case Wire::ENDPOINT:
      return put(body, read(reader.getEndpoint()));
    case Wire::ENDPOINTS:
      return put(body, read(reader.getEndpoints()));
    case Wire::ENDPOINT_ENDED:
      return put(body, read(reader.getEndpointEnded()));
  }
  return malformed("reply", "unknown kind " + std::to_string(static_cast<unsigned>(reader.which())));
}

/// Chooses the union's member for each kind of body.
struct BodyWriter {
  wire::Reply::Body::Builder body;
  void operator()(const Failure& value) { write(value, body.initError()); }
  void operator()(const Welcome& value) { write(value, body.initWelcome()); }
  void operator()(const Granted& value) { write(value, body.initGranted()); }
  void operator()(const Listing& value) { write(value, body.initListing()); }
  void operator()(const RegionDetails& value) { write(value, body.initShown()); }
  void operator()(const Renewed& value) { write(value.region, body.initRenewed()); }
  void operator()(const Revoked& value) {
    auto builder = body.initRevoked();
    builder.setHeld(value.held);
    builder.setGrants(value.grants);
  }
  void operator()(const PoolList& value) {
    write_list(value.pools, body.initPools().initPools(count_of(value.pools)),
               [](const auto& one, auto to) { write(one, to); });
  }
  void operator()(const QuotaList& value) {
    auto builder = body.initQuotas();
    write_list(value.quotas, builder.initQuotas(count_of(value.quotas)),
               [](const auto& one, auto to) { write(one, to); });
    builder.setNext(as_text(value.next));
  }
  void operator()(const Done&) { body.setDone(); }
  void operator()(const ClonePort& value) { body.initClonePort().setTicket(value.ticket); }
  void operator()(const ShutdownResult& value) { write(value, body.initShuttingDown()); }
  void operator()(const BrokerStatus& value) { write_status(value, body.initStatus()); }
  void operator()(const ReloadOutcome& value) { write(value, body.initReloaded()); }
  void operator()(const PolicyPiece& value) { write(value, body.initPolicy()); }
  void operator()(const Explained& value) { write(value, body.initExplained()); }
  void operator()(const Published& value) { write(value.region, body.initPublished()); }
  void operator()(const EndpointTold& value) { write(value, body.initEndpoint()); }
  void operator()(const EndpointListing& value) { write(value, body.initEndpoints()); }
  void operator()(const EndpointEnded& value) { write(value, body.initEndpointEnded()); }
};

// ---- what the broker sends

Result<Notice> read(wire::Notice::Reader reader) {
  Notice notice;
  MAPCAP_TRY(notice.kind, read_enum(reader.getKind(), NoticeKind::progress, "notice.kind"));
  notice.id = RegionId{reader.getRegion()};
  MAPCAP_TRY(notice.name, read_text(reader.getName(), "notice.name", kMaxNameText));
  MAPCAP_TRY(notice.within, read_duration(reader.getWithinNs(), "notice.within"));
  notice.request = reader.getRequest();
  notice.done = ByteCount{reader.getDone()};
  notice.total = ByteCount{reader.getTotal()};
  return notice;
}
void write(const Notice& notice, wire::Notice::Builder builder) {
  builder.setKind(as_wire<wire::NoticeKind>(notice.kind));
  builder.setRegion(notice.id.value);
  builder.setName(as_text(notice.name));
  builder.setWithinNs(notice.within.count());
  builder.setRequest(notice.request);
  builder.setDone(notice.done.value);
  builder.setTotal(notice.total.value);
}

Result<FromBroker> read_root(wire::FromBroker::Reader reader) {
  switch (reader.which()) {
    case wire::FromBroker::REPLY: {
      const auto told = reader.getReply();
      Reply reply{told.getId(), {}};
      MAPCAP_TRY_VOID(read_into(reply.body, told.getBody()));
      return FromBroker(std::move(reply));
    }
    case wire::FromBroker::NOTICE: {
      MAPCAP_TRY(Notice notice, read(reader.getNotice()));
      return FromBroker(std::move(notice));
    }
  }
  return malformed("packet", "neither a reply nor a notice");
}

Packet encode_any(const FromBroker& value) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<wire::FromBroker>();
  if (const auto* reply = std::get_if<Reply>(&value)) {
    auto builder = root.initReply();
    builder.setId(reply->id);
    std::visit(BodyWriter{builder.getBody()}, reply->body);
  } else {
    write(std::get<Notice>(value), root.initNotice());
  }
  return seal<wire::FromBroker>(message);
}

}  // namespace
}  // namespace codec

Packet encode(const FromBroker& value) {
  Packet packet = codec::encode_any(value);
  if (packet.size() <= kMaxPacket) return packet;
  const auto* reply = std::get_if<Reply>(&value);
  MAPCAP_INVARIANT(reply != nullptr, "a notice larger than a packet");
  const Failure too_large =
      failure(ErrorCode::exhausted,
              "the answer takes " + std::to_string(packet.size()) + " bytes, a packet holds " +
                  std::to_string(kMaxPacket) + ": ask for less",
              {{"asked", std::to_string(packet.size())}, {"limit", std::to_string(kMaxPacket)}});
  return codec::encode_any(Reply{reply->id, too_large});
}

Result<FromBroker> decode_from_broker(std::span<const std::byte> bytes) {
  return codec::decode_packet<wire::FromBroker, FromBroker>(bytes, kMaxPacket, codec::read_root);
}

}  // namespace mapcap::schema
