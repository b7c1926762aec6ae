/* Every function of <mapcap.h>, from C89, against the broker whose socket is the first argument: prints what is not as it
 * should be and ends with 1. */
#include <fcntl.h>
#include <mapcap.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int wrong = 0;

static void expect(int is_so, int line, const char *what) {
  if (is_so) return;
  wrong = 1;
  printf("interface.c:%d: %s; last error %s: %s\n", line, what, mapcap_code_name(mapcap_error_code()),
         mapcap_error_sentence());
}
#define EXPECT(condition) expect((condition) != 0, __LINE__, #condition)

static int count_regions(const mapcap_region_info *info, void *context) {
  EXPECT(info->size == sizeof *info);
  EXPECT(strncmp(info->name, "c/", 2) == 0);
  ++*(int *)context;
  return 0;
}
static int stop_at_once(const mapcap_region_info *info, void *context) {
  (void)info;
  ++*(int *)context;
  return 1;
}
static int see_holder(const mapcap_holder_info *info, void *context) {
  EXPECT(info->size == sizeof *info);
  EXPECT(info->uid == (uint32_t)getuid() && info->endpoint[0] == '\0' && !info->ended);
  EXPECT(info->rights == MAPCAP_READ_ONLY || info->rights == MAPCAP_READ_WRITE);
  EXPECT(info->cgroup[0] == '\0' || (info->unit[0] == '\0' && info->container[0] == '\0'));
  *(uint32_t *)context += info->count;
  return 0;
}
static int see_pool(const mapcap_pool_info *info, void *context) {
  EXPECT(strcmp(info->backing, "memory") == 0);
  EXPECT((info->seals & (1u << MAPCAP_REVOCABLE)) != 0);
  EXPECT((info->cache_modes & (1u << MAPCAP_WRITE_BACK)) != 0);
  strcpy((char *)context, info->name);
  return 0;
}
static int find_quota(const mapcap_quota_info *info, void *context) {
  if (info->subject == MAPCAP_USER && info->id == 4242) *(uint64_t *)context = info->limits.bytes;
  return 0;
}
static void touch(void *context) { ((volatile char *)context)[0] = 1; }

static void errors_and_words(const char *socket) {
  mapcap_client *client;
  mapcap_connect_options connect = MAPCAP_CONNECT_OPTIONS;
  EXPECT(mapcap_error_code() == MAPCAP_OK);
  EXPECT(strcmp(mapcap_error_sentence(), "") == 0);
  EXPECT(strcmp(mapcap_code_name(MAPCAP_ERROR_OVER_QUOTA), "over_quota") == 0);
  EXPECT(strcmp(mapcap_code_name(MAPCAP_ERROR_REVOKED), "revoked") == 0);
  EXPECT(strcmp(mapcap_code_name(12345), "unknown") == 0);
  EXPECT(strlen(mapcap_version()) >= 5);
  connect.socket = "/nonexistent/mapcap.sock";
  EXPECT(mapcap_connect(&connect, &client) == MAPCAP_ERROR_UNAVAILABLE);
  EXPECT(client == NULL);
  EXPECT(strstr(mapcap_error_sentence(), "/nonexistent/mapcap.sock") != NULL);
  connect.socket = socket;
  connect.size = 0;
  EXPECT(mapcap_connect(&connect, &client) == MAPCAP_ERROR_INVALID);
  connect.size = sizeof connect + 8; /* a caller that is newer than the library */
  EXPECT(mapcap_connect(&connect, &client) == MAPCAP_ERROR_INVALID);
  connect.size = sizeof connect;
  connect.deadline_ms = 0;
  EXPECT(mapcap_connect(&connect, &client) == MAPCAP_ERROR_INVALID);
  EXPECT(mapcap_connect(NULL, NULL) == MAPCAP_ERROR_INVALID);
  mapcap_disconnect(NULL);
  mapcap_grant_close(NULL);
  mapcap_unmap(NULL);
  EXPECT(mapcap_grant_release(NULL) == -1);
}

static void memory(mapcap_client *client) {
  mapcap_create_options what = MAPCAP_CREATE_OPTIONS;
  mapcap_region_info info = MAPCAP_REGION_INFO;
  mapcap_grant *grant, *reader, *passed;
  mapcap_mapping *mapping, *view;
  int granularity = -1, rights = -1, there = 0, ends[2];
  uint32_t holders = 0, grants = 0;
  uint64_t held = 0;
  char bytes[8];
  what.name = "c/memory";
  what.bytes = 8192;
  what.seal = MAPCAP_REVOCABLE;
  EXPECT(mapcap_create_grant(client, &what, MAPCAP_READ_WRITE, &grant) == MAPCAP_OK);
  EXPECT(mapcap_create_grant(client, &what, MAPCAP_READ_WRITE, &reader) == MAPCAP_ERROR_EXISTS);
  EXPECT(reader == NULL);
  if (grant == NULL) return;
  EXPECT(mapcap_grant_fd(grant) >= 0);
  EXPECT(mapcap_grant_rights(grant) == MAPCAP_READ_WRITE);
  EXPECT(mapcap_grant_size(grant) == 8192);
  EXPECT(mapcap_grant_info(grant, &info) == MAPCAP_OK);
  EXPECT(strcmp(info.name, "c/memory") == 0 && info.bytes == 8192 && info.seal == MAPCAP_REVOCABLE);
  EXPECT(info.remaining_ns == -1 && info.state == MAPCAP_STATE_LIVE);
  EXPECT(mapcap_describe(mapcap_grant_fd(grant), &info, &rights, &there) == MAPCAP_OK);
  EXPECT(!there || (rights == MAPCAP_READ_WRITE && info.bytes == 8192));

  EXPECT(mapcap_map(grant, MAPCAP_READ_WRITE, &mapping) == MAPCAP_OK);
  EXPECT(mapcap_mapping_size(mapping) == 8192);
  ((char *)mapcap_address(mapping))[0] = 'a';
  EXPECT(mapcap_persist(mapping, 0, 1, &granularity) == MAPCAP_OK && granularity == MAPCAP_GRANULARITY_NONE);
  EXPECT(mapcap_flush(mapping, 0, 8192, NULL) == MAPCAP_OK);
  EXPECT(mapcap_drain(mapping) == MAPCAP_OK);
  EXPECT(mapcap_copy_persist(mapping, 4, "copy", 4, &granularity) == MAPCAP_OK);
  EXPECT(mapcap_fill_persist(mapping, 8, 'f', 8184, NULL) == MAPCAP_OK);
  EXPECT(mapcap_persist(mapping, 8192, 1, NULL) == MAPCAP_ERROR_INVALID);
  EXPECT(mapcap_write(mapping, 1, "bc", 2) == MAPCAP_OK);

  EXPECT(mapcap_open(client, "c/memory", MAPCAP_READ_ONLY, &reader) == MAPCAP_OK);
  EXPECT(mapcap_map(reader, MAPCAP_READ_WRITE, &view) == MAPCAP_ERROR_DENIED && view == NULL);
  EXPECT(mapcap_map(reader, MAPCAP_READ_ONLY, &view) == MAPCAP_OK);
  EXPECT(mapcap_read(view, 0, bytes, 8) == MAPCAP_OK && memcmp(bytes, "abc\0copy", 8) == 0);
  EXPECT(mapcap_write(view, 0, "x", 1) == MAPCAP_ERROR_DENIED);
  EXPECT(mapcap_show(client, "c/memory", &info, see_holder, &holders) == MAPCAP_OK);
  EXPECT(info.confinement != MAPCAP_CONFINED_AS_CLONE || holders == 2);

  EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  EXPECT(mapcap_grant_send(reader, ends[0]) == MAPCAP_OK);
  EXPECT(mapcap_grant_receive(ends[1], &passed) == MAPCAP_OK);
  EXPECT(mapcap_grant_size(passed) == 8192 && mapcap_grant_rights(passed) == MAPCAP_READ_ONLY);
  close(ends[0]);
  close(ends[1]);
  EXPECT(close(mapcap_grant_release(passed)) == 0);
  mapcap_grant_close(reader);
  EXPECT(mapcap_grant_adopt(dup(mapcap_grant_fd(grant)), &passed) == MAPCAP_OK);
  mapcap_grant_close(passed);
  EXPECT(mapcap_grant_adopt(-1, &passed) == MAPCAP_ERROR_IO && mapcap_error_detail("errno") != NULL);
  EXPECT(mapcap_error_detail_key(0) != NULL && mapcap_error_detail_key(99) == NULL);
  EXPECT(mapcap_inherited("nothing", &passed) == MAPCAP_ERROR_NOT_FOUND);

  EXPECT(mapcap_guarded(mapcap_address(mapping), 8192, touch, mapcap_address(mapping)) == MAPCAP_OK);
  EXPECT(mapcap_revoke(client, "c/memory", NULL, &held, &grants) == MAPCAP_OK);
  EXPECT(held == 8192);
  EXPECT(mapcap_read(view, 0, bytes, 1) == MAPCAP_ERROR_REVOKED);
  EXPECT(mapcap_guarded(mapcap_address(mapping), 8192, touch, mapcap_address(mapping)) == MAPCAP_ERROR_REVOKED);
  EXPECT(mapcap_fill_persist(mapping, 0, 0, 1, NULL) == MAPCAP_ERROR_REVOKED);
  mapcap_unmap(view);
  mapcap_unmap(mapping);
  mapcap_grant_close(grant);
}

static void administration(mapcap_client *client) {
  mapcap_create_options what = MAPCAP_CREATE_OPTIONS;
  mapcap_revoke_options how = MAPCAP_REVOKE_OPTIONS;
  mapcap_region_info info = MAPCAP_REGION_INFO;
  mapcap_amounts limits;
  mapcap_notice notice = MAPCAP_NOTICE;
  mapcap_status_info status = MAPCAP_STATUS_INFO;
  mapcap_shutdown_options end = MAPCAP_SHUTDOWN_OPTIONS;
  mapcap_shutdown_info ended = MAPCAP_SHUTDOWN_INFO;
  struct pollfd readable;
  char pool[MAPCAP_POOL_ROOM] = "";
  int seen = 0, there = 0, told = 0, turn;
  uint64_t limit = 0;
  EXPECT(mapcap_create(client, NULL, NULL) == MAPCAP_ERROR_INVALID);
  EXPECT(mapcap_create(client, &what, NULL) == MAPCAP_ERROR_INVALID); /* no name */
  what.name = "c/a";
  what.bytes = 4096;
  what.lifetime = MAPCAP_TTL;
  what.ttl_ns = (int64_t)3600 * 1000 * 1000 * 1000;
  what.seal = 7;
  EXPECT(mapcap_create(client, &what, &info) == MAPCAP_ERROR_INVALID);
  what.seal = MAPCAP_SEAL_OF_POOL;
  EXPECT(mapcap_create(client, &what, &info) == MAPCAP_OK);
  EXPECT(info.lifetime == MAPCAP_TTL && info.ttl_ns == what.ttl_ns && info.remaining_ns > 0);
  what.name = "c/b";
  EXPECT(mapcap_create(client, &what, NULL) == MAPCAP_OK);
  EXPECT(mapcap_list(client, "c/?", count_regions, &seen) == MAPCAP_OK && seen == 2);
  seen = 0;
  EXPECT(mapcap_list(client, NULL, stop_at_once, &seen) == MAPCAP_OK && seen == 1);
  EXPECT(mapcap_list(client, NULL, NULL, NULL) == MAPCAP_ERROR_INVALID);
  EXPECT(mapcap_renew(client, "c/a", 2 * what.ttl_ns, &info) == MAPCAP_OK && info.ttl_ns == 2 * what.ttl_ns);
  EXPECT(mapcap_renew(client, "c/none", what.ttl_ns, NULL) == MAPCAP_ERROR_NOT_FOUND);
  EXPECT(mapcap_pools(client, see_pool, pool) == MAPCAP_OK && pool[0] != '\0');
  limits.bytes = 1 << 20;
  limits.regions = limits.grants = limits.connections = MAPCAP_UNLIMITED;
  EXPECT(mapcap_quota_set(client, MAPCAP_USER, 4242, pool, &limits) == MAPCAP_OK);
  EXPECT(mapcap_quota(client, find_quota, &limit) == MAPCAP_OK && limit == 1 << 20);
  EXPECT(mapcap_quota_clear(client, MAPCAP_USER, 4242, pool) == MAPCAP_OK);
  EXPECT(mapcap_quota_set(client, 9, 4242, pool, &limits) == MAPCAP_ERROR_INVALID);
  EXPECT(mapcap_status(client, &status, NULL, NULL) == MAPCAP_OK);
  EXPECT(status.pid != 0 && status.keeper_held >= 2 && status.regions[MAPCAP_STATE_LIVE] >= 2);
  EXPECT(status.unguarded == 0 && status.ledger_trouble[0] == '\0' && status.policy[0] != '\0');
  end.end_regions = end.only_tell = 1;
  EXPECT(mapcap_shutdown(client, &end, &ended) == MAPCAP_OK && ended.regions >= 2 && ended.users == 1);
  end.size = sizeof end + 1;
  EXPECT(mapcap_shutdown(client, &end, NULL) == MAPCAP_ERROR_INVALID);
  EXPECT(strlen(mapcap_client_broker(client)) > 0);
  EXPECT(mapcap_client_socket(client)[0] == '/');

  EXPECT(mapcap_publish(client, "c/none", 0, NULL) == MAPCAP_ERROR_NOT_FOUND);
  info.published_unix_ns = -1;
  if (mapcap_publish(client, "c/a", 0, &info) == MAPCAP_OK) {
    EXPECT(info.published_unix_ns > 0);
  } else { /* no clones: nobody could tell who writes */
    EXPECT(mapcap_error_code() == MAPCAP_ERROR_UNSUPPORTED && info.published_unix_ns == -1);
  }
  how.drain = 1;
  how.within_ns = 1;
  EXPECT(mapcap_revoke(client, "c/b", &how, NULL, NULL) == MAPCAP_OK);
  EXPECT(mapcap_revoke(client, "c/a", NULL, NULL, NULL) == MAPCAP_OK);
  readable.fd = mapcap_client_fd(client);
  readable.events = POLLIN;
  for (turn = 0; turn < 100 && told < 2; ++turn) {
    EXPECT(mapcap_next_notice(client, &notice, &there) == MAPCAP_OK);
    if (there && notice.kind == MAPCAP_GONE) ++told;
    if (!there) (void)poll(&readable, 1, 1000);
  }
  EXPECT(told == 2);
}

static int see_endpoint(const mapcap_endpoint_info *info, void *context) {
  EXPECT(info->size == sizeof *info);
  EXPECT(strcmp(info->id, "readers") == 0);
  ++*(int *)context;
  return 0;
}
static int see_text(int kind, const char *text, void *context) {
  static const char *const expected[] = {"c/**", "dram", "open", "role=reader"};
  EXPECT(kind >= MAPCAP_ENDPOINT_NAME && kind <= MAPCAP_ENDPOINT_LABEL && strcmp(text, expected[kind]) == 0);
  ++*(int *)context;
  return 0;
}
static int see_endpoints_holder(const mapcap_holder_info *info, void *context) {
  EXPECT(strcmp(info->endpoint, "readers") == 0 && info->rights == MAPCAP_READ_ONLY && info->count == 1);
  *(int *)context += info->ended ? 10 : 1;
  return 0;
}
static int see_endpoints_quota(const mapcap_quota_info *info, void *context) {
  if (strcmp(info->endpoint, "readers") == 0) ++*(int *)context;
  return 0;
}
static int see_opened(const char *name, void *context) {
  EXPECT(strcmp(name, "c/shared") == 0);
  ++*(int *)context;
  return 0;
}

static void endpoints(mapcap_client *client) {
  const char *names[] = {"c/**", NULL}, *pools[] = {"dram", NULL}, *verbs[] = {"open", NULL};
  const char *labels[] = {"role=reader", NULL}, *no_label[] = {"role", NULL};
  mapcap_endpoint_options what = MAPCAP_ENDPOINT_OPTIONS;
  mapcap_endpoint_info info = MAPCAP_ENDPOINT_INFO;
  mapcap_end_options how = MAPCAP_END_OPTIONS;
  mapcap_end_info ended = MAPCAP_END_INFO;
  mapcap_create_options shared = MAPCAP_CREATE_OPTIONS;
  mapcap_connect_options connect = MAPCAP_CONNECT_OPTIONS;
  mapcap_region_info region = MAPCAP_REGION_INFO;
  mapcap_status_info status = MAPCAP_STATUS_INFO;
  mapcap_client *through;
  mapcap_grant *grant;
  uint64_t held;
  char socket[512];
  int fd, clones_are_made = 0, count = 0;
  shared.name = "c/shared";
  shared.bytes = 4096;
  shared.lifetime = MAPCAP_PERSISTENT;
  EXPECT(mapcap_create(client, &shared, NULL) == MAPCAP_OK);
  EXPECT(mapcap_status(client, &status, NULL, NULL) == MAPCAP_OK && status.keeper_sockets == 0);
  held = status.keeper_held;

  EXPECT(mapcap_endpoint_create(client, NULL, NULL) == MAPCAP_ERROR_INVALID);
  EXPECT(mapcap_endpoint_create(client, &what, NULL) == MAPCAP_ERROR_INVALID);
  what.id = "readers";
  what.names = names;
  what.pools = pools;
  what.verbs = verbs;
  what.labels = no_label;
  EXPECT(mapcap_endpoint_create(client, &what, NULL) == MAPCAP_ERROR_INVALID);
  what.labels = labels;
  what.rights = MAPCAP_READ_ONLY;
  what.limits.connections = 1;
  what.ttl_ns = INT64_C(3600000000000);
  what.on_end = MAPCAP_END_KEEPS;
  EXPECT(mapcap_endpoint_create(client, &what, &info) == MAPCAP_OK);
  EXPECT(info.rights == MAPCAP_READ_ONLY && info.on_end == MAPCAP_END_KEEPS && info.remaining_ns > 0);
  EXPECT(info.limits.connections == 1 && info.limits.bytes == MAPCAP_UNLIMITED && info.used.connections == 0);
  EXPECT(mapcap_endpoint_create(client, &what, &info) == MAPCAP_ERROR_EXISTS);
  EXPECT(mapcap_endpoint_list(client, see_endpoint, &count) == MAPCAP_OK);
  EXPECT(count == 1);
  count = 0;
  EXPECT(mapcap_endpoint_show(client, "readers", &info, see_text, &count) == MAPCAP_OK);
  EXPECT(count == 4);
  EXPECT(mapcap_endpoint_show(client, "nobody", &info, NULL, NULL) == MAPCAP_ERROR_NOT_FOUND);
  EXPECT(mapcap_endpoint_renew(client, "readers", INT64_C(7200000000000), &info) == MAPCAP_OK);
  EXPECT(info.ttl_ns == INT64_C(7200000000000));

  EXPECT(mapcap_endpoint_directory(client, "nobody", &fd) == MAPCAP_ERROR_NOT_FOUND);
  EXPECT(fd == -1);
  EXPECT(mapcap_endpoint_directory(client, "readers", &fd) == MAPCAP_OK);
  sprintf(socket, "/proc/self/fd/%d/mapcap.sock", fd);
  connect.socket = socket;
  connect.reconnect_within_ms = 0;
  EXPECT(mapcap_connect(&connect, &through) == MAPCAP_OK);
  EXPECT(mapcap_open(through, "c/shared", MAPCAP_READ_WRITE, &grant) == MAPCAP_ERROR_DENIED);
  EXPECT(mapcap_open(through, "c/shared", MAPCAP_READ_ONLY, &grant) == MAPCAP_OK);
  EXPECT(mapcap_status(client, &status, NULL, NULL) == MAPCAP_OK);
  EXPECT(status.keeper_sockets == 1 && status.keeper_held == held && status.store_sockets == 0);
  EXPECT(mapcap_show(client, "c/shared", &region, NULL, NULL) == MAPCAP_OK);
  clones_are_made = region.confinement == MAPCAP_CONFINED_AS_CLONE;
  EXPECT(region.endpoint[0] == '\0' && !region.draining);
  count = 0;
  EXPECT(mapcap_show(client, "c/shared", NULL, see_endpoints_holder, &count) == MAPCAP_OK);
  EXPECT(count == clones_are_made);
  count = 0;
  EXPECT(mapcap_quota(client, see_endpoints_quota, &count) == MAPCAP_OK && count > 0);
  count = 0;
  EXPECT(mapcap_endpoint_end(client, "readers", NULL, &ended, see_opened, &count) == MAPCAP_OK);
  EXPECT(ended.opened == (uint64_t)clones_are_made && count == clones_are_made);
  EXPECT(ended.revoked == 0 && ended.kept == 0 && ended.cut == 0);
  count = 0;
  EXPECT(mapcap_show(client, "c/shared", NULL, see_endpoints_holder, &count) == MAPCAP_OK);
  EXPECT(count == 10 * clones_are_made);
  EXPECT(mapcap_list(through, NULL, count_regions, &count) == MAPCAP_ERROR_UNAVAILABLE);
  mapcap_grant_close(grant);
  mapcap_disconnect(through);
  close(fd);
  how.revoke_opened = 1;
  EXPECT(mapcap_endpoint_end(client, "readers", &how, NULL, NULL, NULL) == MAPCAP_ERROR_NOT_FOUND);
  EXPECT(mapcap_revoke(client, "c/shared", NULL, NULL, NULL) == MAPCAP_OK);
}

static void clones(mapcap_client *client, const char *scratch) {
  mapcap_grant *grant;
  const int file = open(scratch, O_RDWR | O_CREAT | O_TRUNC, 0600);
  EXPECT(file >= 0 && ftruncate(file, 4096) == 0);
  if (mapcap_clone(client, file, MAPCAP_READ_ONLY, &grant) == MAPCAP_OK) {
    EXPECT(mapcap_grant_size(grant) == 4096);
    mapcap_grant_close(grant);
  } else {
    EXPECT(mapcap_error_code() == MAPCAP_ERROR_UNSUPPORTED); /* a kernel without FUSE passthrough */
  }
  close(file);
  unlink(scratch);
}

int main(int argc, char **argv) {
  mapcap_client *client;
  mapcap_connect_options connect = MAPCAP_CONNECT_OPTIONS;
  if (argc != 3) {
    fprintf(stderr, "usage: interface SOCKET SCRATCH-FILE\n");
    return 2;
  }
  errors_and_words(argv[1]);
  connect.socket = argv[1];
  connect.notices = 1;
  EXPECT(mapcap_connect(&connect, &client) == MAPCAP_OK);
  if (client == NULL) return 1;
  memory(client);
  administration(client);
  endpoints(client);
  clones(client, argv[2]);
  mapcap_disconnect(client);
  return wrong;
}
