// What requests and replies say of endpoints.
#include "schema/wire.h"

namespace mapcap::schema::codec {

namespace {

using Texts = capnp::List<capnp::Text>;

Result<std::vector<std::string>> read_texts(Texts::Reader list, std::string_view field,
                                            std::size_t max_bytes) {
  std::vector<std::string> texts;
  for (const capnp::Text::Reader text : list) {
    MAPCAP_TRY(std::string value, read_text(text, field, max_bytes));
    texts.push_back(std::move(value));
  }
  return texts;
}

void write_texts(const std::vector<std::string>& texts, Texts::Builder list) {
  for (std::size_t i = 0; i < texts.size(); ++i) list.set(static_cast<unsigned>(i), as_text(texts[i]));
}

Result<EndpointInfo> read(wire::EndpointInfo::Reader reader) {
  EndpointInfo endpoint;
  MAPCAP_TRY(endpoint.spec, codec::read(reader.getSpec()));
  endpoint.maker = reader.getMaker();
  endpoint.principal = reader.getPrincipal();
  MAPCAP_TRY(endpoint.state, read_enum(reader.getState(), EndpointState::ended, "endpoint.state"));
  MAPCAP_TRY(endpoint.directory, read_text(reader.getDirectory(), "endpoint.directory", kMaxPath));
  endpoint.created_unix = std::chrono::nanoseconds(reader.getCreatedUnixNs());
  MAPCAP_TRY(endpoint.remaining, read_remaining(reader.getRemaining(), "endpoint.remaining"));
  endpoint.bytes = reader.getBytes();
  endpoint.regions = reader.getRegions();
  endpoint.grants = reader.getGrants();
  endpoint.connections = reader.getConnections();
  return endpoint;
}

void write(const EndpointInfo& endpoint, wire::EndpointInfo::Builder builder) {
  codec::write(endpoint.spec, builder.initSpec());
  builder.setMaker(endpoint.maker);
  builder.setPrincipal(endpoint.principal);
  builder.setState(as_wire<wire::EndpointState>(endpoint.state));
  builder.setDirectory(as_text(endpoint.directory));
  builder.setCreatedUnixNs(endpoint.created_unix.count());
  write_remaining(endpoint.remaining, builder.getRemaining());
  builder.setBytes(endpoint.bytes);
  builder.setRegions(endpoint.regions);
  builder.setGrants(endpoint.grants);
  builder.setConnections(endpoint.connections);
}

}  // namespace

Result<EndpointSpec> read(wire::EndpointSpec::Reader reader) {
  EndpointSpec spec;
  MAPCAP_TRY(spec.id, read_text(reader.getId(), "endpoint.id", kMaxNameText));
  MAPCAP_TRY(spec.names, read_texts(reader.getNames(), "endpoint.names", kMaxNameText));
  MAPCAP_TRY(spec.pools, read_texts(reader.getPools(), "endpoint.pools", kMaxPoolName));
  MAPCAP_TRY(spec.verbs, read_texts(reader.getVerbs(), "endpoint.verbs", kMaxWord));
  MAPCAP_TRY(spec.rights, read_access(reader.getRights(), "endpoint.rights"));
  MAPCAP_TRY(spec.limits, read(reader.getLimits()));
  MAPCAP_TRY(spec.ttl, read_duration(reader.getTtlNs(), "endpoint.ttl"));
  MAPCAP_TRY(spec.on_end, read_enum(reader.getOnEnd(), OnEnd::keep, "endpoint.onEnd"));
  for (const wire::Label::Reader label : reader.getLabels()) {
    MAPCAP_TRY(std::string key, read_text(label.getKey(), "endpoint.labels.key", kMaxWord));
    MAPCAP_TRY(std::string value, read_text(label.getValue(), "endpoint.labels.value", kMaxWord));
    spec.labels.push_back({std::move(key), std::move(value)});
  }
  return spec;
}

void write(const EndpointSpec& spec, wire::EndpointSpec::Builder builder) {
  const auto count = [](const auto& list) { return static_cast<unsigned>(list.size()); };
  builder.setId(as_text(spec.id));
  write_texts(spec.names, builder.initNames(count(spec.names)));
  write_texts(spec.pools, builder.initPools(count(spec.pools)));
  write_texts(spec.verbs, builder.initVerbs(count(spec.verbs)));
  builder.setRights(as_wire<wire::Access>(spec.rights));
  write(spec.limits, builder.initLimits());
  builder.setTtlNs(spec.ttl.count());
  builder.setOnEnd(as_wire<wire::OnEnd>(spec.on_end));
  auto labels = builder.initLabels(count(spec.labels));
  for (unsigned i = 0; i < labels.size(); ++i) {
    labels[i].setKey(as_text(spec.labels[i].key));
    labels[i].setValue(as_text(spec.labels[i].value));
  }
}

Result<EndpointTold> read(wire::EndpointTold::Reader reader) {
  MAPCAP_TRY(EndpointInfo endpoint, read(reader.getEndpoint()));
  return EndpointTold{std::move(endpoint), reader.getWithFd()};
}

void write(const EndpointTold& told, wire::EndpointTold::Builder builder) {
  write(told.endpoint, builder.initEndpoint());
  builder.setWithFd(told.with_fd);
}

Result<EndpointListing> read(wire::EndpointListing::Reader reader) {
  EndpointListing listing;
  for (const wire::EndpointInfo::Reader one : reader.getEndpoints()) {
    MAPCAP_TRY(EndpointInfo endpoint, read(one));
    listing.endpoints.push_back(std::move(endpoint));
  }
  MAPCAP_TRY(listing.next, read_text(reader.getNext(), "endpoints.next", kMaxNameText));
  return listing;
}

void write(const EndpointListing& listing, wire::EndpointListing::Builder builder) {
  auto list = builder.initEndpoints(static_cast<unsigned>(listing.endpoints.size()));
  for (unsigned i = 0; i < list.size(); ++i) write(listing.endpoints[i], list[i]);
  builder.setNext(as_text(listing.next));
}

Result<EndpointEnded> read(wire::EndpointEnded::Reader reader) {
  EndpointEnded ended{reader.getRevoked(), reader.getKept(), reader.getHeld(), reader.getOpened(), {},
                      reader.getCut()};
  MAPCAP_TRY(ended.opened_regions, read_texts(reader.getOpenedRegions(), "ended.opened", kMaxNameText));
  return ended;
}

void write(const EndpointEnded& ended, wire::EndpointEnded::Builder builder) {
  builder.setRevoked(ended.revoked);
  builder.setKept(ended.kept);
  builder.setHeld(ended.held);
  builder.setOpened(ended.opened);
  write_texts(ended.opened_regions,
              builder.initOpenedRegions(static_cast<unsigned>(ended.opened_regions.size())));
  builder.setCut(ended.cut);
}

}  // namespace mapcap::schema::codec
