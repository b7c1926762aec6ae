// Requests to packets and back: one function a struct each way.
#include "schema/codec.h"
#include "schema/wire.h"

namespace mapcap::schema {
namespace codec {
namespace {

using codec::read;
using codec::write;

/// Names keep their control characters until RegionName has said what is wrong with them.
Result<std::string> read_name(capnp::Text::Reader text, std::string_view field) {
  return read_text(text, field, kMaxNameText, Controls::allowed);
}

Result<Hello> read(wire::Hello::Reader reader) {
  Hello hello;
  hello.version = reader.getVersion();
  hello.features = reader.getFeatures();
  MAPCAP_TRY(hello.client, read_text(reader.getClient(), "hello.client", kMaxClientText));
  MAPCAP_TRY(hello.resume, read_resume(reader.getResume(), "hello.resume"));
  return hello;
}
void write(const Hello& hello, wire::Hello::Builder builder) {
  builder.setVersion(hello.version);
  builder.setFeatures(hello.features);
  builder.setClient(as_text(hello.client));
  builder.setResume(as_data(hello.resume));
}

Result<std::optional<std::uint32_t>> read(wire::Create::Group::Reader reader) {
  switch (reader.which()) {
    case wire::Create::Group::CALLERS:
      return std::optional<std::uint32_t>();
    case wire::Create::Group::GID:
      return std::optional<std::uint32_t>(reader.getGid());
  }
  return malformed("create.group", "unknown kind");
}
Result<std::optional<SealKind>> read(wire::Create::Seal::Reader reader) {
  switch (reader.which()) {
    case wire::Create::Seal::POOL_DEFAULT:
      return std::optional<SealKind>();
    case wire::Create::Seal::KIND: {
      MAPCAP_TRY(const SealKind kind, read_seal(reader.getKind(), "create.seal"));
      return std::optional<SealKind>(kind);
    }
  }
  return malformed("create.seal", "unknown kind");
}
Result<std::optional<Access>> read(wire::Create::Grant::Reader reader) {
  switch (reader.which()) {
    case wire::Create::Grant::NONE:
      return std::optional<Access>();
    case wire::Create::Grant::RIGHTS: {
      MAPCAP_TRY(const Access rights, read_access(reader.getRights(), "create.grant"));
      return std::optional<Access>(rights);
    }
  }
  return malformed("create.grant", "unknown kind");
}

}  // namespace

Result<Create> read(wire::Create::Reader reader) {
  Create create;
  MAPCAP_TRY(create.name, read_name(reader.getName(), "create.name"));
  create.size = reader.getSize();
  MAPCAP_TRY(create.pool, read_text(reader.getPool(), "create.pool", kMaxPoolName));
  MAPCAP_TRY(create.cache.mode, read_cache_mode(reader.getCacheMode(), "create.cache"));
  create.cache.required = reader.getCacheRequired();
  MAPCAP_TRY(create.lifetime, read(reader.getLifetime()));
  MAPCAP_TRY(create.mode, read_mode(reader.getMode(), "create.mode"));
  MAPCAP_TRY(create.group, read(reader.getGroup()));
  MAPCAP_TRY(create.seal, read(reader.getSeal()));
  MAPCAP_TRY(create.grant, read(reader.getGrant()));
  return create;
}
void write(const Create& create, wire::Create::Builder builder) {
  builder.setName(as_text(create.name));
  builder.setSize(create.size);
  builder.setPool(as_text(create.pool));
  builder.setCacheMode(as_wire<wire::CacheMode>(create.cache.mode));
  builder.setCacheRequired(create.cache.required);
  write(create.lifetime, builder.initLifetime());
  builder.setMode(static_cast<std::uint16_t>(create.mode));
  if (create.group) {
    builder.getGroup().setGid(*create.group);
  } else {
    builder.getGroup().setCallers();
  }
  if (create.seal) {
    builder.getSeal().setKind(as_wire<wire::SealKind>(*create.seal));
  } else {
    builder.getSeal().setPoolDefault();
  }
  if (create.grant) {
    builder.getGrant().setRights(as_wire<wire::Access>(*create.grant));
  } else {
    builder.getGrant().setNone();
  }
}

namespace {

Result<Open> read(wire::Open::Reader reader) {
  Open open;
  MAPCAP_TRY(open.name, read_name(reader.getName(), "open.name"));
  MAPCAP_TRY(open.rights, read_access(reader.getRights(), "open.rights"));
  return open;
}
void write(const Open& open, wire::Open::Builder builder) {
  builder.setName(as_text(open.name));
  builder.setRights(as_wire<wire::Access>(open.rights));
}

Result<List> read(wire::ListRegions::Reader reader) {
  List list;
  MAPCAP_TRY(list.glob, read_text(reader.getGlob(), "list.glob", kMaxNameText));
  MAPCAP_TRY(list.cursor, read_text(reader.getCursor(), "list.cursor", kMaxNameText));
  list.limit = reader.getLimit();
  return list;
}
void write(const List& list, wire::ListRegions::Builder builder) {
  builder.setGlob(as_text(list.glob));
  builder.setCursor(as_text(list.cursor));
  builder.setLimit(list.limit);
}

Result<Show> read(wire::Show::Reader reader) {
  MAPCAP_TRY(std::string name, read_name(reader.getName(), "show.name"));
  return Show{std::move(name)};
}
void write(const Show& show, wire::Show::Builder builder) {
  builder.setName(as_text(show.name));
}

Result<Renew> read(wire::Renew::Reader reader) {
  Renew renew;
  MAPCAP_TRY(renew.name, read_name(reader.getName(), "renew.name"));
  MAPCAP_TRY(renew.ttl, read_duration(reader.getTtlNs(), "renew.ttl"));
  return renew;
}
void write(const Renew& renew, wire::Renew::Builder builder) {
  builder.setName(as_text(renew.name));
  builder.setTtlNs(renew.ttl.count());
}

Result<Revoke> read(wire::Revoke::Reader reader) {
  Revoke revoke;
  MAPCAP_TRY(revoke.name, read_name(reader.getName(), "revoke.name"));
  const auto how = reader.getHow();
  switch (how.which()) {
    case wire::Revoke::How::NOW:
      return revoke;
    case wire::Revoke::How::DRAIN_WITHIN_NS: {
      revoke.drain = true;
      MAPCAP_TRY(revoke.within, read_duration(how.getDrainWithinNs(), "revoke.within"));
      return revoke;
    }
  }
  return malformed("revoke.how", "unknown kind");
}
void write(const Revoke& revoke, wire::Revoke::Builder builder) {
  builder.setName(as_text(revoke.name));
  if (revoke.drain) {
    builder.getHow().setDrainWithinNs(revoke.within.count());
  } else {
    builder.getHow().setNow();
  }
}

Result<Publish> read(wire::Publish::Reader reader) {
  Publish publish;
  MAPCAP_TRY(publish.name, read_name(reader.getName(), "publish.name"));
  MAPCAP_TRY(publish.within, read_duration(reader.getWithinNs(), "publish.within"));
  return publish;
}
void write(const Publish& publish, wire::Publish::Builder builder) {
  builder.setName(as_text(publish.name));
  builder.setWithinNs(publish.within.count());
}

Result<Quota> read(wire::Quota::Reader reader) {
  MAPCAP_TRY(std::string cursor, read_text(reader.getCursor(), "quota.cursor", kMaxNameText));
  return Quota{std::move(cursor)};
}
void write(const Quota& quota, wire::Quota::Builder builder) {
  builder.setCursor(as_text(quota.cursor));
}

Result<QuotaSet> read(wire::QuotaSet::Reader reader) {
  MAPCAP_TRY(QuotaSlot slot, read(reader.getSlot()));
  MAPCAP_TRY(const Limits limits, read(reader.getLimits()));
  return QuotaSet{std::move(slot), limits};
}
void write(const QuotaSet& set, wire::QuotaSet::Builder builder) {
  write(set.slot, builder.initSlot());
  write(set.limits, builder.initLimits());
}

Result<QuotaClear> read(wire::QuotaClear::Reader reader) {
  MAPCAP_TRY(QuotaSlot slot, read(reader.getSlot()));
  return QuotaClear{std::move(slot)};
}
void write(const QuotaClear& clear, wire::QuotaClear::Builder builder) {
  write(clear.slot, builder.initSlot());
}

Result<CloneFd> read(wire::CloneFd::Reader reader) {
  MAPCAP_TRY(const Access rights, read_access(reader.getRights(), "clone.rights"));
  return CloneFd{rights, reader.getTicket()};
}
void write(const CloneFd& clone, wire::CloneFd::Builder builder) {
  builder.setRights(as_wire<wire::Access>(clone.rights));
  builder.setTicket(clone.ticket);
}

Result<std::optional<std::chrono::nanoseconds>> read(wire::PolicyExplain::Ttl::Reader reader) {
  switch (reader.which()) {
    case wire::PolicyExplain::Ttl::NONE:
      return std::optional<std::chrono::nanoseconds>();
    case wire::PolicyExplain::Ttl::NS: {
      MAPCAP_TRY(const auto ttl, read_duration(reader.getNs(), "explain.ttl"));
      return std::optional<std::chrono::nanoseconds>(ttl);
    }
  }
  return malformed("explain.ttl", "unknown kind");
}

Result<PolicyExplain> read(wire::PolicyExplain::Reader reader) {
  PolicyExplain explain;
  explain.uid = reader.getUid();
  MAPCAP_TRY(explain.verb, read_text(reader.getVerb(), "explain.verb", kMaxVerbText));
  MAPCAP_TRY(Create ask, read(reader.getAsk()));
  explain.rights = ask.grant;
  explain.region = std::move(ask);
  MAPCAP_TRY(explain.ttl, read(reader.getTtl()));
  return explain;
}
void write(const PolicyExplain& explain, wire::PolicyExplain::Builder builder) {
  builder.setUid(explain.uid);
  builder.setVerb(as_text(explain.verb));
  write(Create{explain.region, explain.rights}, builder.initAsk());
  if (explain.ttl) {
    builder.getTtl().setNs(explain.ttl->count());
  } else {
    builder.getTtl().setNone();
  }
}

Result<EndpointCreate> read_create(wire::EndpointSpec::Reader reader) {
  MAPCAP_TRY(EndpointSpec spec, read(reader));
  return EndpointCreate{std::move(spec)};
}
Result<EndpointList> read(wire::EndpointList::Reader reader) {
  MAPCAP_TRY(std::string cursor, read_text(reader.getCursor(), "endpoints.cursor", kMaxNameText));
  return EndpointList{std::move(cursor)};
}
Result<std::string> read_endpoint_id(capnp::Text::Reader text) {
  return read_text(text, "endpoint.id", kMaxNameText);
}
Result<EndpointShow> read(wire::EndpointShow::Reader reader) {
  MAPCAP_TRY(std::string id, read_endpoint_id(reader.getId()));
  return EndpointShow{std::move(id), reader.getDirectory()};
}
void write(const EndpointShow& show, wire::EndpointShow::Builder builder) {
  builder.setId(as_text(show.id));
  builder.setDirectory(show.directory);
}
Result<EndpointRenew> read(wire::EndpointRenew::Reader reader) {
  MAPCAP_TRY(std::string id, read_endpoint_id(reader.getId()));
  MAPCAP_TRY(const auto ttl, read_duration(reader.getTtlNs(), "endpoint.ttl"));
  return EndpointRenew{std::move(id), ttl};
}
void write(const EndpointRenew& renew, wire::EndpointRenew::Builder builder) {
  builder.setId(as_text(renew.id));
  builder.setTtlNs(renew.ttl.count());
}
Result<EndpointEnd> read(wire::EndpointEnd::Reader reader) {
  MAPCAP_TRY(std::string id, read_endpoint_id(reader.getId()));
  return EndpointEnd{std::move(id), reader.getRevokeOpened()};
}
void write(const EndpointEnd& end, wire::EndpointEnd::Builder builder) {
  builder.setId(as_text(end.id));
  builder.setRevokeOpened(end.revoke_opened);
}

/// A struct's result as the union's.
template <typename Value>
Result<RequestBody> as_body(Result<Value> value) {
  if (!value) return std::move(value).assume_error();
  return RequestBody(std::move(value).assume_value());
}

Result<RequestBody> read(wire::Request::Body::Reader reader) {
  using Wire = wire::Request::Body;
  switch (reader.which()) {
    case Wire::HELLO:
      return as_body(read(reader.getHello()));
    case Wire::CREATE:
      return as_body(read(reader.getCreate()));
    case Wire::OPEN:
      return as_body(read(reader.getOpen()));
    case Wire::LIST:
      return as_body(read(reader.getList()));
    case Wire::SHOW:
      return as_body(read(reader.getShow()));
    case Wire::RENEW:
      return as_body(read(reader.getRenew()));
    case Wire::REVOKE:
      return as_body(read(reader.getRevoke()));
    case Wire::POOLS:
      return RequestBody(Pools{});
    case Wire::QUOTA:
      return as_body(read(reader.getQuota()));
    case Wire::QUOTA_SET:
      return as_body(read(reader.getQuotaSet()));
    case Wire::QUOTA_CLEAR:
      return as_body(read(reader.getQuotaClear()));
    case Wire::CLONE_FD:
      return as_body(read(reader.getCloneFd()));
    case Wire::CLONE_PORT:
      return RequestBody(AskClonePort{});
    case Wire::GOODBYE:
      return RequestBody(Goodbye{});
    case Wire::SHUTDOWN: {
      const auto shutdown = reader.getShutdown();
      return RequestBody(Shutdown{{shutdown.getEndRegions(), shutdown.getOnlyTell()}});
    }
    case Wire::STATUS:
      return RequestBody(AskStatus{});
    case Wire::RELOAD:
      return RequestBody(Reload{});
    case Wire::POLICY_SHOW:
      return RequestBody(PolicyShow{reader.getPolicyShow().getOffset()});
    case Wire::POLICY_EXPLAIN:
      return as_body(read(reader.getPolicyExplain()));
    case Wire::PUBLISH:
      return as_body(read(reader.getPublish()));
    case Wire::ENDPOINT_CREATE:
      return as_body(read_create(reader.getEndpointCreate()));
    case Wire::ENDPOINT_LIST:
      return as_body(read(reader.getEndpointList()));
    case Wire::ENDPOINT_SHOW:
      return as_body(read(reader.getEndpointShow()));
    case Wire::ENDPOINT_RENEW:
      return as_body(read(reader.getEndpointRenew()));
    case Wire::ENDPOINT_END:
      return as_body(read(reader.getEndpointEnd()));
  }
  return malformed("request", "unknown verb " + std::to_string(static_cast<unsigned>(reader.which())));
}

/// Chooses the union's member for each kind of body.
struct BodyWriter {
  wire::Request::Body::Builder body;
  void operator()(const Hello& value) { write(value, body.initHello()); }
  void operator()(const Create& value) { write(value, body.initCreate()); }
  void operator()(const Open& value) { write(value, body.initOpen()); }
  void operator()(const List& value) { write(value, body.initList()); }
  void operator()(const Show& value) { write(value, body.initShow()); }
  void operator()(const Renew& value) { write(value, body.initRenew()); }
  void operator()(const Revoke& value) { write(value, body.initRevoke()); }
  void operator()(const Pools&) { body.setPools(); }
  void operator()(const Quota& value) { write(value, body.initQuota()); }
  void operator()(const QuotaSet& value) { write(value, body.initQuotaSet()); }
  void operator()(const QuotaClear& value) { write(value, body.initQuotaClear()); }
  void operator()(const CloneFd& value) { write(value, body.initCloneFd()); }
  void operator()(const AskClonePort&) { body.setClonePort(); }
  void operator()(const Goodbye&) { body.setGoodbye(); }
  void operator()(const Shutdown& value) {
    auto builder = body.initShutdown();
    builder.setEndRegions(value.end_regions);
    builder.setOnlyTell(value.only_tell);
  }
  void operator()(const AskStatus&) { body.setStatus(); }
  void operator()(const Reload&) { body.setReload(); }
  void operator()(const PolicyShow& value) { body.initPolicyShow().setOffset(value.offset); }
  void operator()(const PolicyExplain& value) { write(value, body.initPolicyExplain()); }
  void operator()(const Publish& value) { write(value, body.initPublish()); }
  void operator()(const EndpointCreate& value) { write(value.spec, body.initEndpointCreate()); }
  void operator()(const EndpointList& value) { body.initEndpointList().setCursor(as_text(value.cursor)); }
  void operator()(const EndpointShow& value) { write(value, body.initEndpointShow()); }
  void operator()(const EndpointRenew& value) { write(value, body.initEndpointRenew()); }
  void operator()(const EndpointEnd& value) { write(value, body.initEndpointEnd()); }
};

Result<Request> read_root(wire::Request::Reader reader) {
  MAPCAP_TRY(RequestBody body, read(reader.getBody()));
  return Request{reader.getId(), std::move(body)};
}

}  // namespace
}  // namespace codec

Packet encode(const Request& request) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<wire::Request>();
  root.setId(request.id);
  std::visit(codec::BodyWriter{root.getBody()}, request.body);
  return codec::seal<wire::Request>(message);
}

Result<Request> decode_request(std::span<const std::byte> bytes) {
  return codec::decode_packet<wire::Request, Request>(bytes, kMaxRequest, codec::read_root);
}

}  // namespace mapcap::schema
