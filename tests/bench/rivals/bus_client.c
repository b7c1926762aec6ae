// The client: see bus.h.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "tests/bench/rivals/bus.h"
#include "tests/bench/rivals/bus_names.h"

struct bus_client {
  sd_bus* bus;
  const char* destination;  // NULL: the peer.
};

static struct bus_client* started(sd_bus* bus, const char* destination, int result) {
  struct bus_client* client = NULL;
  if (result >= 0) result = sd_bus_negotiate_fds(bus, 1);
  if (result >= 0) result = sd_bus_start(bus);
  if (result >= 0) client = calloc(1, sizeof *client);
  if (client == NULL) {
    sd_bus_unref(bus);
    errno = result < 0 ? -result : ENOMEM;
    return NULL;
  }
  client->bus = bus;
  client->destination = destination;
  return client;
}

struct bus_client* bus_connect_peer(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  sd_bus* bus = NULL;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return NULL;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (connect(fd, (struct sockaddr*)&address, sizeof address) != 0) {
    close(fd);
    return NULL;
  }
  int result = sd_bus_new(&bus);
  if (result >= 0) result = sd_bus_set_fd(bus, fd, fd);
  return started(bus, NULL, result);
}

struct bus_client* bus_connect_to(const char* address) {
  sd_bus* bus = NULL;
  int result = sd_bus_new(&bus);
  if (result >= 0) result = sd_bus_set_address(bus, address);
  if (result >= 0) result = sd_bus_set_bus_client(bus, 1);
  return started(bus, BUS_NAME, result);
}

void bus_disconnect(struct bus_client* client) {
  if (client == NULL) return;
  sd_bus_flush_close_unref(client->bus);
  free(client);
}

int bus_show(struct bus_client* client) {
  sd_bus_message* reply = NULL;
  const char* name = NULL;
  uint64_t bytes = 0;
  uint32_t owner = 0;
  uint32_t mode = 0;
  int result = sd_bus_call_method(client->bus, client->destination, BUS_OBJECT, BUS_INTERFACE, "Show", NULL,
                                  &reply, "s", "bench/region");
  if (result >= 0) result = sd_bus_message_read(reply, "stuu", &name, &bytes, &owner, &mode);
  sd_bus_message_unref(reply);
  if (result >= 0) return 0;
  errno = -result;
  return -1;
}

// The descriptor is the message's: what is mapped does not need it any more.
static void* mapped(sd_bus_message* reply, int result, uint64_t bytes, int protection) {
  void* at = MAP_FAILED;
  int fd = -1;
  if (result >= 0) result = sd_bus_message_read(reply, "h", &fd);
  if (result >= 0) at = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
  int failed = result < 0 ? -result : errno;
  sd_bus_message_unref(reply);
  if (at != MAP_FAILED) return at;
  errno = failed;
  return NULL;
}

void* bus_open(struct bus_client* client, uint64_t bytes) {
  sd_bus_message* reply = NULL;
  int result = sd_bus_call_method(client->bus, client->destination, BUS_OBJECT, BUS_INTERFACE, "Open", NULL,
                                  &reply, "s", "bench/region");
  return mapped(reply, result, bytes, PROT_READ);
}

void* bus_create(struct bus_client* client, uint64_t bytes) {
  sd_bus_message* reply = NULL;
  int result = sd_bus_call_method(client->bus, client->destination, BUS_OBJECT, BUS_INTERFACE, "Create", NULL,
                                  &reply, "st", "bench/region", bytes);
  return mapped(reply, result, bytes, PROT_READ | PROT_WRITE);
}
