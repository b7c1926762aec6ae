// The client: see floor.h.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/bench/rivals/floor.h"

int floor_connect(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (socket_fd < 0) return -1;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (connect(socket_fd, (struct sockaddr*)&address, sizeof address) == 0) return socket_fd;
  close(socket_fd);
  return -1;
}

int floor_ask(int socket_fd, enum floor_verb verb, uint64_t bytes) {
  struct floor_packet packet = {.verb = verb, .bytes = bytes, .name = "bench/region"};
  struct iovec data = {&packet, sizeof packet};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (send(socket_fd, &packet, sizeof packet, MSG_NOSIGNAL) != (ssize_t)sizeof packet) return -1;
  ssize_t got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
  if (got != (ssize_t)sizeof packet || packet.failed != 0) {
    if (got >= 0) errno = packet.failed != 0 ? (int)packet.failed : EPIPE;
    return -1;
  }
  int fd = 0;
  struct cmsghdr* rights = CMSG_FIRSTHDR(&message);
  if (rights != NULL && rights->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(rights), sizeof fd);
  return fd;
}
