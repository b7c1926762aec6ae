#include "broker/assembly.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "base/machine/machine.h"
#include "base/machine/memory.h"
#include "broker/bpf/device_holders/device_holders.h"
#include "broker/bpf/page_attribute/page_attribute.h"
#include "broker/confine/lsm/lsm.h"
#include "broker/confine/native.h"
#include "broker/confine/sealed.h"
#include "broker/pool/devices/dax_device.h"
#include "broker/pool/devices/dax_region.h"
#include "broker/pool/devices/pci_bar.h"
#include "broker/pool/files/dax_file.h"
#include "broker/pool/memory.h"
#include "policy/machine_share.h"

namespace mapcap::broker {

using policy::Backing;
using policy::PoolSettings;

namespace {

/// Without it devices that were granted come back with the next boot only.
std::shared_ptr<device_holders::Census> census() {
  Result<std::shared_ptr<device_holders::Census>> loaded = device_holders::load();
  return loaded ? loaded.value() : nullptr;
}

/// Without it cache modes stay unverified.
pool::CacheReader cache_reader() {
  Result<page_attribute::Reader> loaded = page_attribute::load();
  return loaded ? loaded.value() : pool::CacheReader();
}

/// Every memfd of a kernel is mapped alike: one is looked at.
bool memory_is_write_back(const PoolPower& power) {
  const Fd fd(::memfd_create("mapcap-cache", MFD_CLOEXEC));
  if (!fd.valid() || ::ftruncate(fd.get(), kPageSize) != 0) return false;
  const Result<CacheMode> mode =
      power.cache_mode ? power.cache_mode(fd.borrow()) : page_attribute::mapped_from(fd.borrow());
  return mode && mode.value() == CacheMode::write_back;
}

/// A share stays one: only the pool knows of what.
template <typename Options>
void set_capacity(Options& options, const PoolSettings& settings) {
  if (!settings.capacity) return;
  if (const auto* percent = std::get_if<policy::Percent>(&*settings.capacity)) {
    options.capacity = percent->value;
  } else {
    options.capacity = std::get<ByteCount>(*settings.capacity);
  }
}

Result<std::unique_ptr<pool::Pool>> open_dax_file(const PoolSettings& settings, Confinement confinement,
                                                  std::uint32_t ledger, const PoolPower& power) {
  pool::DaxFileOptions options;
  options.ledger = ledger;
  options.name = settings.name;
  options.path = settings.path;
  set_capacity(options, settings);
  options.seals = settings.seals;
  options.confinement = confinement;
  options.cut_deadline = std::chrono::duration_cast<std::chrono::milliseconds>(settings.pin_deadline);
  options.cache_reader = power.cache_mode ? power.cache_mode : page_attribute::mapped_from;
  options.open_directory = power.open_directory;
  return pool::open_dax_file(std::move(options));
}

Result<std::unique_ptr<pool::Pool>> open_dax_region(const PoolSettings& settings, std::uint32_t ledger) {
  pool::DaxRegionOptions options;
  options.ledger = ledger;
  options.name = settings.name;
  options.region = settings.region;
  set_capacity(options, settings);
  options.census = census();
  options.end_holders_after = settings.end_holders_after;
  options.cache_reader = cache_reader();
  return pool::open_dax_region(std::move(options));
}

Result<std::unique_ptr<pool::Pool>> open_backing(const PoolSettings& settings, Confinement confinement,
                                                 std::uint32_t ledger, const PoolPower& power) {
  switch (settings.backing) {
    case Backing::memory: {
      pool::MemoryOptions options;
      options.name = settings.name;
      options.capacity = policy::resolved(*settings.capacity, machine::total_memory());
      options.seals = settings.seals;
      options.populate = settings.populate;
      options.huge = settings.huge;
      options.secret = settings.secret;
      options.numa_node = settings.numa;
      options.cache_verified = memory_is_write_back(power);
      options.huge_tmpfs = power.huge_tmpfs;
      return pool::open_memory(std::move(options));
    }
    case Backing::dax_file:
      return open_dax_file(settings, confinement, ledger, power);
    case Backing::dax_device:
      if (settings.region.empty()) {
        return pool::open_dax_device({settings.name, settings.devices, census(), settings.end_holders_after,
                                      page_attribute::mapped_from});
      }
      return open_dax_region(settings, ledger);
    case Backing::pci_bar:
      return pool::open_pci_bar(
          {settings.name, settings.resources, settings.cache, census(), settings.end_holders_after});
  }
  return failure(ErrorCode::invalid, "pool " + settings.name + " has no backing");
}

Result<policy::ConfinementChoice> choose(const PoolSettings& settings, Confiners& confiners) {
  for (;;) {
    MAPCAP_TRY(policy::ConfinementChoice choice, policy::choose_confinement(settings, confiners.facts));
    if (choice.kind != Confinement::lsm || confiners.lsm != nullptr) return choice;
    auto made = confiners.power.make_lsm ? confiners.power.make_lsm() : confine::make_lsm();
    if (made) {
      confiners.lsm = std::move(made.value());
    } else {
      confiners.facts.no_lsm = made.error().sentence;
    }
  }
}

confine::Confiner* confiner_for(Confinement kind, Confiners& confiners) {
  switch (kind) {
    case Confinement::clone:
      return &confiners.clone;
    case Confinement::lsm:
      return confiners.lsm.get();
    case Confinement::native:
      return confiners.native.get();
    case Confinement::sealed:
      return confiners.sealed.get();
  }
  return nullptr;
}

}  // namespace

bool needs_power(const PoolSettings& pool) {
  return pool.backing == Backing::dax_device || pool.backing == Backing::pci_bar;
}

Confiners::Confiners(keeper::Keeper& keeper, PoolPower from)
    : clone(keeper.clone()),
      native(confine::make_native()),
      sealed(confine::make_sealed()),
      facts{keeper.clone_unavailable(), "", machine::cachestat()},
      power(std::move(from)) {}

Result<std::unique_ptr<ServedPool>> open_pool(const PoolSettings& settings, Confiners& confiners,
                                              std::uint32_t ledger) {
  if (confiners.power.elsewhere() && needs_power(settings)) {
    return failure(ErrorCode::unsupported,
                   settings.where + ": pool " + settings.name +
                       " takes a restart of mapcapd: it has given up the power that devices need");
  }
  auto served = std::make_unique<ServedPool>();
  MAPCAP_TRY(policy::ConfinementChoice choice, choose(settings, confiners));
  Result<std::unique_ptr<pool::Pool>> opened = open_backing(settings, choice.kind, ledger, confiners.power);
  if (!opened) {
    Failure error = opened.error();
    error.sentence = settings.where + ": " + error.sentence;
    return error;
  }
  served->pool = std::move(opened.value());
  if (settings.wt_platform) {
    served->told = served->pool->facts();
    served->told->cache_modes = {CacheMode::write_through};
    served->told->cache_mechanism = CacheMechanism::platform;
  }
  served->confiner = confiner_for(choice.kind, confiners);
  served->confinement_reason = std::move(choice.reason);
  return served;
}

Result<ServedPools> open_pools(const policy::Policy& policy, Confiners& confiners, std::uint32_t ledger) {
  ServedPools pools;
  MAPCAP_TRY_VOID(policy::check_machine(policy.pools(), machine::total_memory()));
  for (const PoolSettings& settings : policy.pools()) {
    MAPCAP_TRY(std::unique_ptr<ServedPool> served, open_pool(settings, confiners, ledger));
    pools.push_back(std::move(served));
  }
  return pools;
}

}  // namespace mapcap::broker
