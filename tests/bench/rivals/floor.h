// The floor: what no broker that hands descriptors over a Unix socket can be faster than. A plain epoll server of one
// thread: no names, no policy, no charges, no record, no confinement. One packet of 64 bytes asks, one answers.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum floor_verb {
  FLOOR_PING,    // an answer of 64 bytes
  FLOOR_LOOKUP,  // a memfd that the server has had since its start
  FLOOR_CREATE,  // memfd_create, ftruncate, seals, send, close
  FLOOR_KEEP,    // the same, but the server keeps it until
  FLOOR_REVOKE   // ftruncate to 0, close
};

struct floor_packet {
  uint32_t verb;
  uint32_t failed;  // errno
  uint64_t bytes;
  char name[48];
};

// Listens at `path`; -1 and errno where it cannot.
int floor_listen(const char* path);
// Serves until it is killed: does not return. What it holds for lookups has `bytes`.
void floor_serve(int listener, uint64_t bytes);

// -1 and errno where nobody listens.
int floor_connect(const char* path);
// The descriptor that came with the answer, 0 where none was to come, -1 and errno.
int floor_ask(int socket, enum floor_verb verb, uint64_t bytes);

#ifdef __cplusplus
}
#endif
