// The server: see floor.h.
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/bench/rivals/floor.h"

enum { MOST_CONNECTIONS = 1024, EVENTS = 64 };

static int kept[MOST_CONNECTIONS];  // By the connection's descriptor; 0: nothing.

static void die(const char* what) {
  perror(what);
  _exit(1);
}

int floor_listen(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return -1;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0 || listen(listener, 128) != 0)
    return -1;
  return listener;
}

static int make_region(uint64_t bytes, int seals) {
  int fd = memfd_create("region", MFD_ALLOW_SEALING | MFD_CLOEXEC);
  if (fd < 0) return -1;
  if (ftruncate(fd, (off_t)bytes) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0) return fd;
  close(fd);
  return -1;
}

static void answer(int to, struct floor_packet* packet, int fd) {
  struct iovec data = {packet, sizeof *packet};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  if (fd >= 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    struct cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void serve(int client, int held) {
  enum { ALL_SEALS = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL, REVOCABLE = F_SEAL_GROW | F_SEAL_SEAL };
  struct floor_packet packet;
  struct iovec data = {&packet, sizeof packet};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  ssize_t got = recvmsg(client, &message, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return;
  if (got != (ssize_t)sizeof packet) {
    if (kept[client] > 0) close(kept[client]);
    kept[client] = 0;
    close(client);
    return;
  }
  int fd = -1;
  packet.failed = 0;
  switch (packet.verb) {
    case FLOOR_PING:
      break;
    case FLOOR_LOOKUP:
      fd = held;
      break;
    case FLOOR_CREATE:
    case FLOOR_KEEP:
      fd = make_region(packet.bytes, packet.verb == FLOOR_CREATE ? ALL_SEALS : REVOCABLE);
      if (fd < 0) packet.failed = (uint32_t)errno;
      break;
    case FLOOR_REVOKE:
      if (kept[client] <= 0 || ftruncate(kept[client], 0) != 0) packet.failed = EINVAL;
      if (kept[client] > 0) close(kept[client]);
      kept[client] = 0;
      break;
    default:
      packet.failed = EINVAL;
  }
  answer(client, &packet, fd);
  if (packet.verb == FLOOR_CREATE && fd >= 0) close(fd);
  if (packet.verb == FLOOR_KEEP && fd >= 0) {
    if (kept[client] > 0) close(kept[client]);
    kept[client] = fd;
  }
}

void floor_serve(int listener, uint64_t bytes) {
  int held = make_region(bytes, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event events[EVENTS];
  struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener};
  if (held < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &wanted) != 0) die("floor");
  for (;;) {
    int ready = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < ready; ++i) {
      if (events[i].data.fd != listener) {
        serve(events[i].data.fd, held);
        continue;
      }
      int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (client < 0) continue;
      wanted.data.fd = client;
      if (client >= MOST_CONNECTIONS || epoll_ctl(epoll, EPOLL_CTL_ADD, client, &wanted) != 0) close(client);
    }
  }
}
