#include "client/c/call.h"

#include <new>

namespace mapcap::c {
namespace {

struct Failure {
  int code = MAPCAP_OK;
  std::string sentence;
  Error::Details details;
};

Failure& failure() {
  thread_local Failure of_this_thread;
  return of_this_thread;
}

}  // namespace

int fail(int code, const std::string& sentence, Error::Details details) noexcept {
  Failure& failed = failure();
  failed.code = code;
  try {
    failed.sentence = sentence;
    failed.details = std::move(details);
  } catch (const std::bad_alloc&) {
    failed.sentence.clear();
    failed.details.clear();
  }
  return code;
}

int fail_with_current_exception() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    try {
      return fail(static_cast<int>(error.code()), error.what(), error.details());
    } catch (const std::bad_alloc&) {
      return fail(static_cast<int>(error.code()), "");
    }
  } catch (const std::bad_alloc&) {
    return fail(MAPCAP_ERROR_NO_MEMORY, "no memory");  // Short enough to need none.
  } catch (const std::exception& error) {
    return fail(MAPCAP_ERROR_UNEXPECTED, error.what());
  } catch (...) {
    return fail(MAPCAP_ERROR_UNEXPECTED, "something that is no exception of the standard library was thrown");
  }
}

mapcap_region_info to_c(const RegionInfo& region) {
  mapcap_region_info told{};
  told.size = sizeof told;
  told.id = region.id;
  put(told.name, region.name);
  put(told.pool, region.pool);
  told.owner = region.owner;
  told.group = region.group;
  told.mode = region.mode;
  told.bytes = region.size;
  told.cache_requested = static_cast<int>(region.cache.requested);
  told.cache_required = region.cache.required ? 1 : 0;
  told.cache_effective = static_cast<int>(region.cache.effective);
  told.cache_mechanism = static_cast<int>(region.cache.mechanism);
  told.cache_verified = region.cache.verified ? 1 : 0;
  told.granularity = static_cast<int>(region.durability.granularity);
  told.domain = static_cast<int>(region.durability.domain);
  told.map_sync = region.durability.map_sync ? 1 : 0;
  told.confinement = static_cast<int>(region.confinement);
  told.seal = static_cast<int>(region.seal);
  told.lifetime = static_cast<int>(region.lifetime.kind);
  told.ttl_ns = region.lifetime.ttl.count();
  told.created_unix_ns = region.created_unix.count();
  told.remaining_ns = region.remaining ? region.remaining->count() : -1;
  told.state = static_cast<int>(region.state);
  told.grants = region.grants;
  told.held = region.held;
  told.bad_blocks = region.bad_blocks;
  told.published_unix_ns = region.published_unix.value_or(std::chrono::nanoseconds(0)).count();
  told.draining = region.draining ? 1 : 0;
  put(told.endpoint, region.endpoint);
  return told;
}

RegionSpec to_spec(const mapcap_create_options& options) {
  RegionSpec spec;
  spec.name = needed(options.name, "mapcap_create_options::name");
  spec.size = options.bytes;
  spec.pool = text(options.pool);
  spec.cache.mode = word<CacheMode>(options.cache_mode, MAPCAP_UNCACHED, "cache_mode");
  spec.cache.required = options.cache_required != 0;
  spec.lifetime.kind = word<LifetimeKind>(options.lifetime, MAPCAP_PERSISTENT, "lifetime");
  if (spec.lifetime.kind == LifetimeKind::ttl) spec.lifetime.ttl = std::chrono::nanoseconds(options.ttl_ns);
  spec.mode = options.mode;
  if (options.has_group != 0) spec.group = options.group;
  if (options.seal != MAPCAP_SEAL_OF_POOL)
    spec.seal = word<SealKind>(options.seal, MAPCAP_IRREVOCABLE, "seal");
  return spec;
}

Progress to_progress(mapcap_progress progress, void* context) {
  if (progress == nullptr) return {};
  return [progress, context](std::uint64_t done, std::uint64_t total) { progress(done, total, context); };
}

}  // namespace mapcap::c

using mapcap::c::failure;

int mapcap_error_code(void) {
  return failure().code;
}

const char* mapcap_error_sentence(void) {
  return failure().sentence.c_str();
}

const char* mapcap_error_detail(const char* key) {
  if (key == nullptr) return nullptr;
  for (const auto& [name, value] : failure().details) {
    if (name == key) return value.c_str();
  }
  return nullptr;
}

const char* mapcap_error_detail_key(size_t index) {
  const auto& details = failure().details;
  return index < details.size() ? details[index].first.c_str() : nullptr;
}

const char* mapcap_code_name(int code) {
  if (code == MAPCAP_OK) return "ok";
  if (code == MAPCAP_ERROR_NO_MEMORY) return "no_memory";
  if (code == MAPCAP_ERROR_UNEXPECTED) return "unexpected";
  if (code == MAPCAP_ERROR_REVOKED || (code >= MAPCAP_ERROR_MALFORMED && code <= MAPCAP_ERROR_UNAVAILABLE))
    return mapcap::name_of(static_cast<mapcap::ErrorCode>(code));
  return "unknown";
}

const char* mapcap_version(void) {
  return MAPCAP_VERSION;
}
