// Grants and mappings, from C.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "client/c/call.h"

using namespace mapcap;
using c::call;
using c::make_grant;
using c::needed;

namespace {

void put_granularity(int* to, Granularity granularity) {
  if (to != nullptr) *to = static_cast<int>(granularity);
}

/// Works on a copy, so that the caller's descriptor is closed only when all went well. Errors: `io`, and
/// adopt()'s.
Grant adopt_copy(int fd) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) {
    const int error = errno;
    throw Error(ErrorCode::io,
                "descriptor " + std::to_string(fd) + " cannot be copied: " + std::strerror(error),
                {{"errno", std::to_string(error)}, {"call", "fcntl"}});
  }
  Grant grant = Grant::adopt(std::move(copy));
  ::close(fd);
  return grant;
}

}  // namespace

void mapcap_grant_close(mapcap_grant* grant) {
  delete grant;
}

int mapcap_grant_release(mapcap_grant* grant) {
  if (grant == nullptr) return -1;
  const int fd = std::move(grant->grant).release();
  delete grant;
  return fd;
}

int mapcap_grant_fd(const mapcap_grant* grant) {
  return grant->grant.fd();
}

int mapcap_grant_rights(const mapcap_grant* grant) {
  return static_cast<int>(grant->grant.rights());
}

uint64_t mapcap_grant_size(const mapcap_grant* grant) {
  return grant->grant.size();
}

int mapcap_grant_info(const mapcap_grant* grant, mapcap_region_info* info) {
  return call([&] {
    c::tell(needed(info, "info"), c::to_c(needed(grant, "grant")->grant.info()), "mapcap_region_info");
  });
}

int mapcap_grant_adopt(int fd, mapcap_grant** grant) {
  return make_grant(grant, [&] { return adopt_copy(fd); });
}

int mapcap_inherited(const char* name, mapcap_grant** grant) {
  return make_grant(grant, [&] { return inherited(needed(name, "name")); });
}

int mapcap_grant_send(const mapcap_grant* grant, int unix_socket) {
  return call([&] { needed(grant, "grant")->grant.send(unix_socket); });
}

int mapcap_grant_receive(int unix_socket, mapcap_grant** grant) {
  return make_grant(grant, [&] { return Grant::receive(unix_socket); });
}

int mapcap_describe(int fd, mapcap_region_info* info, int* rights, int* there) {
  return call([&] {
    const std::optional<Description> told = describe(fd);
    *needed(there, "there") = told ? 1 : 0;
    if (!told) return;
    RegionInfo region;
    region.name = told->name;
    region.size = told->size;
    region.cache.requested = told->cache_requested;
    region.cache.effective = told->cache_effective;
    region.cache.mechanism = told->cache_mechanism;
    region.durability = told->durability;
    region.confinement = told->confinement;
    region.published_unix = told->published_unix;
    if (rights != nullptr) *rights = static_cast<int>(told->rights);
    c::tell(info, c::to_c(region), "mapcap_region_info");
  });
}

int mapcap_map(const mapcap_grant* grant, int rights, mapcap_mapping** mapping) {
  if (mapping != nullptr) *mapping = nullptr;
  return call([&] {
    *needed(mapping, "mapping") =
        new mapcap_mapping{Mapping(needed(grant, "grant")->grant, c::rights(rights))};
  });
}

void mapcap_unmap(mapcap_mapping* mapping) {
  delete mapping;
}

void* mapcap_address(const mapcap_mapping* mapping) {
  return const_cast<std::byte*>(mapping->mapping.bytes().data());
}

size_t mapcap_mapping_size(const mapcap_mapping* mapping) {
  return mapping->mapping.size();
}

int mapcap_persist(mapcap_mapping* mapping, size_t offset, size_t length, int* granularity) {
  return call(
      [&] { put_granularity(granularity, needed(mapping, "mapping")->mapping.persist(offset, length)); });
}

int mapcap_flush(mapcap_mapping* mapping, size_t offset, size_t length, int* granularity) {
  return call(
      [&] { put_granularity(granularity, needed(mapping, "mapping")->mapping.flush(offset, length)); });
}

int mapcap_drain(mapcap_mapping* mapping) {
  return call([&] { needed(mapping, "mapping")->mapping.drain(); });
}

int mapcap_copy_persist(mapcap_mapping* mapping, size_t offset, const void* from, size_t length,
                        int* granularity) {
  return call([&] {
    const std::span<const std::byte> source(static_cast<const std::byte*>(needed(from, "from")), length);
    put_granularity(granularity, needed(mapping, "mapping")->mapping.memcpy_persist(offset, source));
  });
}

int mapcap_fill_persist(mapcap_mapping* mapping, size_t offset, int byte, size_t length, int* granularity) {
  return call([&] {
    put_granularity(
        granularity,
        needed(mapping, "mapping")->mapping.memset_persist(offset, static_cast<std::byte>(byte), length));
  });
}

namespace {

void check(Touch touch) {
  if (touch == Touch::revoked) {
    throw Error(ErrorCode::revoked, "the region was revoked, or its device has bad blocks there; unmap it");
  }
}

}  // namespace

int mapcap_read(const mapcap_mapping* mapping, size_t offset, void* to, size_t length) {
  return call([&] {
    const std::span<std::byte> destination(static_cast<std::byte*>(needed(to, "to")), length);
    check(try_read(needed(mapping, "mapping")->mapping, offset, destination));
  });
}

int mapcap_write(mapcap_mapping* mapping, size_t offset, const void* from, size_t length) {
  return call([&] {
    const std::span<const std::byte> source(static_cast<const std::byte*>(needed(from, "from")), length);
    check(try_write(needed(mapping, "mapping")->mapping, offset, source));
  });
}

int mapcap_guarded(const void* begin, size_t length, void (*code)(void* context), void* context) {
  return call([&] {
    needed(code, "call");
    // Not noexcept as far as the type says: whoever lets an exception pass a C function ends the process
    // either way.
    check(guarded({static_cast<const std::byte*>(begin), length}, [&]() noexcept { code(context); }));
  });
}
