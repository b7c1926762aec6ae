// The service: see bus.h.
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "tests/bench/rivals/bus.h"
#include "tests/bench/rivals/bus_names.h"

static int held = -1;
static uint64_t held_bytes;

static void check(int result, const char* what) {
  if (result >= 0) return;
  fprintf(stderr, "sd-bus: %s: %s\n", what, strerror(-result));
  _exit(1);
}

static int make_region(uint64_t bytes) {
  int fd = memfd_create("region", MFD_ALLOW_SEALING | MFD_CLOEXEC);
  if (fd < 0) return -errno;
  if (ftruncate(fd, (off_t)bytes) == 0 &&
      fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0)
    return fd;
  int failed = -errno;
  close(fd);
  return failed;
}

static int on_show(sd_bus_message* call, void* data, sd_bus_error* error) {
  (void)data, (void)error;
  const char* name = NULL;
  int result = sd_bus_message_read(call, "s", &name);
  if (result < 0) return result;
  return sd_bus_reply_method_return(call, "stuu", name, held_bytes, (uint32_t)0, (uint32_t)0600);
}

static int on_open(sd_bus_message* call, void* data, sd_bus_error* error) {
  (void)data, (void)error;
  const char* name = NULL;
  int result = sd_bus_message_read(call, "s", &name);
  if (result < 0) return result;
  return sd_bus_reply_method_return(call, "h", held);
}

static int on_create(sd_bus_message* call, void* data, sd_bus_error* error) {
  (void)data, (void)error;
  const char* name = NULL;
  uint64_t bytes = 0;
  int result = sd_bus_message_read(call, "st", &name, &bytes);
  if (result < 0) return result;
  int fd = make_region(bytes);
  if (fd < 0) return fd;
  result = sd_bus_reply_method_return(call, "h", fd);
  close(fd);
  return result;
}

static const sd_bus_vtable kMethods[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("Show", "s", "stuu", on_show, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Open", "s", "h", on_open, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Create", "st", "h", on_create, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

static void prepare(uint64_t bytes) {
  held_bytes = bytes;
  held = make_region(bytes);
  check(held, "memfd_create");
}

static int on_peer(sd_event_source* source, int listener, uint32_t events, void* data) {
  (void)events, (void)data;
  sd_bus* bus = NULL;
  sd_id128_t id;
  int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (peer < 0) return 0;
  check(sd_id128_randomize(&id), "an id");
  check(sd_bus_new(&bus), "sd_bus_new");
  check(sd_bus_set_fd(bus, peer, peer), "sd_bus_set_fd");
  check(sd_bus_set_server(bus, 1, id), "sd_bus_set_server");
  check(sd_bus_negotiate_fds(bus, 1), "sd_bus_negotiate_fds");
  check(sd_bus_start(bus), "sd_bus_start");
  check(sd_bus_add_object_vtable(bus, NULL, BUS_OBJECT, BUS_INTERFACE, kMethods, NULL), "its methods");
  check(sd_bus_attach_event(bus, sd_event_source_get_event(source), 0), "sd_bus_attach_event");
  return 0;  // It lives as long as this process.
}

void bus_serve_peers(int listener, uint64_t bytes) {
  sd_event* event = NULL;
  prepare(bytes);
  check(sd_event_new(&event), "sd_event_new");
  check(sd_event_add_io(event, NULL, listener, EPOLLIN, on_peer, NULL), "sd_event_add_io");
  check(sd_event_loop(event), "sd_event_loop");
  _exit(0);
}

void bus_serve_on(const char* address, uint64_t bytes, int ready) {
  sd_event* event = NULL;
  sd_bus* bus = NULL;
  prepare(bytes);
  check(sd_event_new(&event), "sd_event_new");
  check(sd_bus_new(&bus), "sd_bus_new");
  check(sd_bus_set_address(bus, address), address);
  check(sd_bus_set_bus_client(bus, 1), "sd_bus_set_bus_client");
  check(sd_bus_negotiate_fds(bus, 1), "sd_bus_negotiate_fds");
  check(sd_bus_start(bus), address);
  check(sd_bus_add_object_vtable(bus, NULL, BUS_OBJECT, BUS_INTERFACE, kMethods, NULL), "its methods");
  check(sd_bus_request_name(bus, BUS_NAME, 0), BUS_NAME);
  check(sd_bus_attach_event(bus, event, 0), "sd_bus_attach_event");
  close(ready);
  check(sd_event_loop(event), "sd_event_loop");
  _exit(0);
}
