// The connection and what is asked over it, from C.
#include "client/c/client.h"

using namespace mapcap;
using c::call;
using c::make_grant;
using c::milliseconds;
using c::needed;
using c::of;

namespace {

std::string_view name_of_region(const char* name) {
  return needed(name, "name");
}

mapcap_create_options create_options(const mapcap_create_options* given) {
  return c::options_or(needed(given, "options"), mapcap_create_options MAPCAP_CREATE_OPTIONS,
                       "mapcap_create_options");
}

mapcap_pool_info to_c(const PoolInfo& pool) {
  mapcap_pool_info told{};
  told.size = sizeof told;
  c::put(told.name, pool.name);
  c::put(told.backing, pool.backing);
  told.capacity = pool.capacity;
  told.used = pool.used;
  told.regions = pool.regions;
  told.granule = pool.granule;
  told.confinement = static_cast<int>(pool.confinement);
  for (const SealKind seal : pool.seals) told.seals |= 1U << static_cast<unsigned>(seal);
  if (!pool.seals.empty()) told.default_seal = static_cast<int>(pool.seals.front());
  for (const CacheMode mode : pool.cache_modes) told.cache_modes |= 1U << static_cast<unsigned>(mode);
  told.granularity = static_cast<int>(pool.durability.granularity);
  told.domain = static_cast<int>(pool.durability.domain);
  told.map_sync = pool.durability.map_sync ? 1 : 0;
  told.cache_verified = pool.cache_verified ? 1 : 0;
  c::put(told.confinement_reason, pool.confinement_reason);
  return told;
}

mapcap_quota_info to_c(const QuotaInfo& quota) {
  mapcap_quota_info told{};
  told.size = sizeof told;
  told.subject = static_cast<int>(quota.slot.subject);
  told.id = quota.slot.id;
  c::put(told.pool, quota.slot.pool);
  told.limits = c::to_amounts(quota.limits);
  told.used = {quota.bytes, quota.regions, quota.grants, quota.connections};
  told.overridden = quota.overridden ? 1 : 0;
  c::put(told.endpoint, quota.endpoint);
  return told;
}

mapcap_holder_info to_c(const Holder& holder) {
  mapcap_holder_info told{};
  told.size = sizeof told;
  told.uid = holder.uid;
  told.rights = static_cast<int>(holder.rights);
  told.count = holder.count;
  c::put(told.endpoint, holder.endpoint);
  told.ended = holder.ended ? 1 : 0;
  c::put(told.unit, holder.unit);
  c::put(told.container, holder.container);
  c::put(told.cgroup, holder.cgroup);
  return told;
}

QuotaSlot to_slot(int subject, std::uint32_t id, const char* pool) {
  return {c::word<SubjectKind>(subject, MAPCAP_GROUP, "subject"), id, c::text(pool)};
}

}  // namespace

int mapcap_connect(const mapcap_connect_options* options, mapcap_client** client) {
  if (client != nullptr) *client = nullptr;
  return call([&] {
    needed(client, "client");
    const mapcap_connect_options asked =
        c::options_or(options, mapcap_connect_options MAPCAP_CONNECT_OPTIONS, "mapcap_connect_options");
    auto made = std::make_unique<mapcap_client>();
    ConnectOptions connect;
    connect.socket = c::text(asked.socket);
    connect.program = c::text(asked.program);
    connect.deadline = milliseconds(asked.deadline_ms, 1, "deadline_ms");
    connect.reconnect_within = milliseconds(asked.reconnect_within_ms, 0, "reconnect_within_ms");
    connect.wait_for_broker = milliseconds(asked.wait_for_broker_ms, 0, "wait_for_broker_ms");
    made->wants_notices = asked.notices != 0;
    // Called from poll(), by whoever holds the mutex.
    if (made->wants_notices) {
      connect.on_notice = [to = made.get()](const Notice& notice) { to->notices.push_back(notice); };
    }
    made->client.emplace(Client::connect(std::move(connect)));
    *client = made.release();
  });
}

void mapcap_disconnect(mapcap_client* client) {
  delete client;
}

int mapcap_client_fd(const mapcap_client* client) {
  return client->client->fd();
}

const char* mapcap_client_broker(mapcap_client* client) {
  const int failed = call([&] {
    std::string name = of(client).broker();
    const std::lock_guard lock(client->mutex);
    client->broker = std::move(name);
  });
  return failed == MAPCAP_OK ? client->broker.c_str() : "";
}

const char* mapcap_client_socket(const mapcap_client* client) {
  return client->client->socket().c_str();
}

int mapcap_create(mapcap_client* client, const mapcap_create_options* options, mapcap_region_info* info) {
  return call([&] {
    const mapcap_create_options asked = create_options(options);
    const RegionInfo created =
        of(client).create(c::to_spec(asked), c::to_progress(asked.progress, asked.progress_context));
    c::tell(info, c::to_c(created), "mapcap_region_info");
  });
}

int mapcap_create_grant(mapcap_client* client, const mapcap_create_options* options, int rights,
                        mapcap_grant** grant) {
  return make_grant(grant, [&] {
    const mapcap_create_options asked = create_options(options);
    return of(client).create(c::to_spec(asked), c::rights(rights),
                             c::to_progress(asked.progress, asked.progress_context));
  });
}

int mapcap_open(mapcap_client* client, const char* name, int rights, mapcap_grant** grant) {
  return make_grant(grant, [&] { return of(client).open(name_of_region(name), c::rights(rights)); });
}

int mapcap_list(mapcap_client* client, const char* glob, mapcap_region_visitor visit, void* context) {
  return call([&] {
    needed(visit, "visit");
    for (const RegionInfo& region : of(client).list(c::text(glob))) {
      const mapcap_region_info told = c::to_c(region);
      if (visit(&told, context) != 0) return;
    }
  });
}

int mapcap_show(mapcap_client* client, const char* name, mapcap_region_info* info,
                mapcap_holder_visitor visit, void* context) {
  return call([&] {
    const RegionDetails details = of(client).show(name_of_region(name));
    c::tell(info, c::to_c(details.region), "mapcap_region_info");
    if (visit == nullptr) return;
    for (const Holder& holder : details.holders) {
      const mapcap_holder_info told = to_c(holder);
      if (visit(&told, context) != 0) return;
    }
  });
}

int mapcap_renew(mapcap_client* client, const char* name, int64_t ttl_ns, mapcap_region_info* info) {
  return call([&] {
    const RegionInfo renewed = of(client).renew(name_of_region(name), std::chrono::nanoseconds(ttl_ns));
    c::tell(info, c::to_c(renewed), "mapcap_region_info");
  });
}

int mapcap_revoke(mapcap_client* client, const char* name, const mapcap_revoke_options* options,
                  uint64_t* held, uint32_t* grants) {
  return call([&] {
    const mapcap_revoke_options asked =
        c::options_or(options, mapcap_revoke_options MAPCAP_REVOKE_OPTIONS, "mapcap_revoke_options");
    const Revoked left =
        of(client).revoke(name_of_region(name), {asked.drain != 0, std::chrono::nanoseconds(asked.within_ns),
                                                 c::to_progress(asked.progress, asked.progress_context)});
    if (held != nullptr) *held = left.held;
    if (grants != nullptr) *grants = left.grants;
  });
}

int mapcap_publish(mapcap_client* client, const char* name, int64_t within_ns, mapcap_region_info* info) {
  return call([&] {
    const RegionInfo published =
        of(client).publish(name_of_region(name), std::chrono::nanoseconds(within_ns));
    c::tell(info, c::to_c(published), "mapcap_region_info");
  });
}

int mapcap_clone(mapcap_client* client, int fd, int rights, mapcap_grant** grant) {
  return make_grant(grant, [&] { return of(client).clone(fd, c::rights(rights)); });
}

int mapcap_pools(mapcap_client* client, mapcap_pool_visitor visit, void* context) {
  return call([&] {
    needed(visit, "visit");
    for (const PoolInfo& pool : of(client).pools()) {
      const mapcap_pool_info told = to_c(pool);
      if (visit(&told, context) != 0) return;
    }
  });
}

int mapcap_quota(mapcap_client* client, mapcap_quota_visitor visit, void* context) {
  return call([&] {
    needed(visit, "visit");
    for (const QuotaInfo& quota : of(client).quota()) {
      const mapcap_quota_info told = to_c(quota);
      if (visit(&told, context) != 0) return;
    }
  });
}

int mapcap_quota_set(mapcap_client* client, int subject, uint32_t id, const char* pool,
                     const mapcap_amounts* limits) {
  return call(
      [&] { of(client).quota_set(to_slot(subject, id, pool), c::to_limits(*needed(limits, "limits"))); });
}

int mapcap_quota_clear(mapcap_client* client, int subject, uint32_t id, const char* pool) {
  return call([&] { of(client).quota_clear(to_slot(subject, id, pool)); });
}

int mapcap_next_notice(mapcap_client* client, mapcap_notice* notice, int* there) {
  return call([&] {
    *needed(there, "there") = 0;
    Client& connection = of(client);
    if (!client->wants_notices) {
      throw Error(ErrorCode::invalid, "the client was connected without mapcap_connect_options::notices");
    }
    const std::lock_guard lock(client->mutex);
    if (client->notices.empty()) connection.poll();
    if (client->notices.empty()) return;
    const Notice& next = client->notices.front();
    mapcap_notice told{};
    told.size = sizeof told;
    told.kind = static_cast<int>(next.kind);
    told.region = next.region;
    c::put(told.name, next.name);
    told.within_ns = next.within.count();
    told.resumed = next.resumed ? 1 : 0;
    c::tell(needed(notice, "notice"), told, "mapcap_notice");
    client->notices.pop_front();
    *there = 1;
  });
}
