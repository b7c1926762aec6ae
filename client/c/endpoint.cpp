// Endpoints, from C.
#include <string>
#include <vector>

#include "client/c/client.h"

using namespace mapcap;

namespace {

/// Up to the NULL that ends it; NULL is an empty list.
std::vector<std::string> list_of(const char* const* texts) {
  std::vector<std::string> all;
  for (; texts != nullptr && *texts != nullptr; ++texts) all.emplace_back(*texts);
  return all;
}

Label to_label(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) throw Error(ErrorCode::invalid, "label \"" + text + "\" is not KEY=VALUE");
  return {text.substr(0, equals), text.substr(equals + 1)};
}

EndpointSpec to_spec(const mapcap_endpoint_options& asked) {
  EndpointSpec spec;
  spec.id = c::text(asked.id);
  spec.names = list_of(asked.names);
  spec.pools = list_of(asked.pools);
  spec.verbs = list_of(asked.verbs);
  for (const std::string& label : list_of(asked.labels)) spec.labels.push_back(to_label(label));
  spec.rights = c::rights(asked.rights);
  spec.limits = c::to_limits(asked.limits);
  spec.ttl = std::chrono::nanoseconds(asked.ttl_ns);
  spec.on_end = c::word<OnEnd>(asked.on_end, MAPCAP_END_KEEPS, "on_end");
  return spec;
}

mapcap_endpoint_info to_c(const EndpointInfo& endpoint) {
  mapcap_endpoint_info told{};
  told.size = sizeof told;
  c::put(told.id, endpoint.spec.id);
  c::put(told.directory, endpoint.directory);
  told.maker = endpoint.maker;
  told.principal = endpoint.principal;
  told.state = static_cast<int>(endpoint.state);
  told.rights = static_cast<int>(endpoint.spec.rights);
  told.limits = c::to_amounts(endpoint.spec.limits);
  told.used = {endpoint.bytes, endpoint.regions, endpoint.grants, endpoint.connections};
  told.ttl_ns = endpoint.spec.ttl.count();
  told.created_unix_ns = endpoint.created_unix.count();
  told.remaining_ns = endpoint.remaining ? endpoint.remaining->count() : -1;
  told.on_end = static_cast<int>(endpoint.spec.on_end);
  return told;
}

std::string_view id_of(const char* id) {
  return c::needed(id, "id");
}

constexpr const char* kInfo = "mapcap_endpoint_info";

}  // namespace

int mapcap_endpoint_create(mapcap_client* client, const mapcap_endpoint_options* options,
                           mapcap_endpoint_info* info) {
  return c::call([&] {
    const mapcap_endpoint_options asked =
        c::options_or(c::needed(options, "options"), mapcap_endpoint_options MAPCAP_ENDPOINT_OPTIONS,
                      "mapcap_endpoint_options");
    c::needed(asked.id, "mapcap_endpoint_options::id");
    c::tell(info, to_c(c::of(client).endpoint_create(to_spec(asked))), kInfo);
  });
}

int mapcap_endpoint_list(mapcap_client* client, mapcap_endpoint_visitor visit, void* context) {
  return c::call([&] {
    c::needed(visit, "visit");
    for (const EndpointInfo& endpoint : c::of(client).endpoints()) {
      const mapcap_endpoint_info told = to_c(endpoint);
      if (visit(&told, context) != 0) return;
    }
  });
}

int mapcap_endpoint_show(mapcap_client* client, const char* id, mapcap_endpoint_info* info,
                         mapcap_endpoint_text_visitor visit, void* context) {
  return c::call([&] {
    const EndpointInfo endpoint = c::of(client).endpoint(id_of(id));
    c::tell(info, to_c(endpoint), kInfo);
    if (visit == nullptr) return;
    const EndpointSpec& spec = endpoint.spec;
    for (const std::string& name : spec.names)
      if (visit(MAPCAP_ENDPOINT_NAME, name.c_str(), context) != 0) return;
    for (const std::string& pool : spec.pools)
      if (visit(MAPCAP_ENDPOINT_POOL, pool.c_str(), context) != 0) return;
    for (const std::string& verb : spec.verbs)
      if (visit(MAPCAP_ENDPOINT_VERB, verb.c_str(), context) != 0) return;
    for (const Label& label : spec.labels)
      if (visit(MAPCAP_ENDPOINT_LABEL, (label.key + "=" + label.value).c_str(), context) != 0) return;
  });
}

int mapcap_endpoint_renew(mapcap_client* client, const char* id, int64_t ttl_ns, mapcap_endpoint_info* info) {
  return c::call([&] {
    const auto ttl = std::chrono::nanoseconds(ttl_ns);
    c::tell(info, to_c(c::of(client).endpoint_renew(id_of(id), ttl)), kInfo);
  });
}

int mapcap_endpoint_directory(mapcap_client* client, const char* id, int* fd) {
  if (fd != nullptr) *fd = -1;
  return c::call([&] {
    c::needed(fd, "fd");
    *fd = c::of(client).endpoint_directory(id_of(id)).release();
  });
}

int mapcap_endpoint_end(mapcap_client* client, const char* id, const mapcap_end_options* options,
                        mapcap_end_info* info, mapcap_opened_visitor visit, void* context) {
  return c::call([&] {
    const mapcap_end_options asked =
        c::options_or(options, mapcap_end_options MAPCAP_END_OPTIONS, "mapcap_end_options");
    const EndpointEnded ended = c::of(client).endpoint_end(id_of(id), asked.revoke_opened != 0);
    c::tell(info,
            mapcap_end_info{sizeof(mapcap_end_info), ended.revoked, ended.kept, ended.held, ended.opened,
                            ended.cut},
            "mapcap_end_info");
    if (visit == nullptr) return;
    for (const std::string& name : ended.opened_regions)
      if (visit(name.c_str(), context) != 0) return;
  });
}
