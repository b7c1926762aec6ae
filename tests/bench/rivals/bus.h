// The same work over sd-bus, systemd's library for D-Bus: a service whose answers carry memfds, peer to peer or on a
// bus. What a program would use that wants descriptors by name and no broker of its own.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Peer to peer: serves whoever connects to `listener` (a stream socket) until it is killed: does not return.
void bus_serve_peers(int listener, uint64_t bytes);
// On the bus at `address`. `ready` is closed when it has its name. Does not return.
void bus_serve_on(const char* address, uint64_t bytes, int ready);

struct bus_client;
// NULL and errno where nobody answers.
struct bus_client* bus_connect_peer(const char* path);
struct bus_client* bus_connect_to(const char* address);
void bus_disconnect(struct bus_client* client);

// 0, or -1 and errno.
int bus_show(struct bus_client* client);
// Where the region is mapped, `bytes` of it; NULL and errno.
void* bus_open(struct bus_client* client, uint64_t bytes);
void* bus_create(struct bus_client* client, uint64_t bytes);

#ifdef __cplusplus
}
#endif
