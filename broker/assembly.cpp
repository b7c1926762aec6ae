#include "broker/assembly.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/machine/memory.h"
#include "broker/bpf/device_holders/device_holders.h"
#include "broker/bpf/page_attribute/page_attribute.h"
#include "broker/confine/lsm/lsm.h"
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

Result<std::unique_ptr<pool::Pool>> open_dax_file(const PoolSettings& settings, Confinement confinement,
                                                  std::uint32_t ledger, const PoolPower& power) {
  pool::DaxFileOptions options;
  options.ledger = ledger;
  options.name = settings.name;
  options.path = settings.path;
  if (settings.capacity) {
    if (const auto* percent = std::get_if<policy::Percent>(&*settings.capacity)) {
      options.capacity = percent->value;
    } else {
      options.capacity = std::get<ByteCount>(*settings.capacity);
    }
  }
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
  if (settings.capacity) {
    if (const auto* percent = std::get_if<policy::Percent>(&*settings.capacity)) {
      options.capacity = percent->value;
    } else {
      options.capacity = std::get<ByteCount>(*settings.capacity);
    }
  }
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

struct Choice {
  confine::Confiner* confiner = nullptr;
  std::string reason;  ///< Why not a stronger one, or why none at all.
};

Choice take(Confiners& confiners, Confinement wanted) {
  switch (wanted) {
    case Confinement::clone:
      if (!confiners.clone_unavailable.empty()) return {nullptr, "clone: " + confiners.clone_unavailable};
      return {&confiners.clone, ""};
    case Confinement::lsm:
      if (!confiners.lsm && confiners.lsm_unavailable.empty()) {
        auto made = confine::make_lsm();
        if (made) confiners.lsm = std::move(made.value());
        if (!made) confiners.lsm_unavailable = made.error().sentence;
      }
      if (!confiners.lsm) return {nullptr, "lsm: " + confiners.lsm_unavailable};
      return {confiners.lsm.get(), ""};
    case Confinement::native:
      return {confiners.native.get(), ""};
    case Confinement::sealed:
      return {confiners.sealed.get(), "the policy permits plain sealed descriptors"};
  }
  return {};
}

/// cachestat(2) (Linux 6.5) takes what DAX keeps of a file for evicted pages and oopses (seen on 6.12):
/// whoever has the file itself can stop the machine. A clone's inode is not the file's.
bool dax_files_endanger_the_kernel() {
  constexpr long kCachestat = 451;
  // Once, when the first pools are opened: the filter that a pool which is added later is opened under has it not.
  static const bool it_is_there = ::syscall(kCachestat, -1, nullptr, nullptr, 0) == 0 || errno != ENOSYS;
  return it_is_there;
}

/// What each backing may be confined by, strongest first.
std::vector<Confinement> strengths(const PoolSettings& settings) {
  switch (settings.backing) {
    case Backing::memory:
      if (settings.secret) return {Confinement::native};
      return {Confinement::clone, Confinement::lsm};
    case Backing::dax_file:
      if (dax_files_endanger_the_kernel()) return {Confinement::clone, Confinement::lsm};
      return {Confinement::lsm, Confinement::clone};
    case Backing::dax_device:
    case Backing::pci_bar:
      return {Confinement::native};
  }
  return {};
}

/// What the administrator should know of a choice that holds by itself.
void warn(Choice& choice, const PoolSettings& settings) {
  const bool whole_file = choice.confiner->kind() != Confinement::clone;
  if (settings.backing != Backing::dax_file || !whole_file || !dax_files_endanger_the_kernel()) return;
  if (!choice.reason.empty()) choice.reason += "; ";
  choice.reason +=
      "on a DAX mount this kernel's cachestat(2) can be used by holders to crash the machine, which clones "
      "prevent";
}

Result<Choice> choose(const PoolSettings& settings, Confiners& confiners) {
  const std::vector<Confinement> possible = strengths(settings);
  if (settings.confinement) {
    const bool fits =
        *settings.confinement == Confinement::sealed
            ? settings.backing == Backing::memory
            : std::find(possible.begin(), possible.end(), *settings.confinement) != possible.end();
    Choice choice;
    if (fits) choice = take(confiners, *settings.confinement);
    if (choice.confiner != nullptr) {
      warn(choice, settings);
      return choice;
    }
    return failure(
        ErrorCode::unsupported,
        settings.where + ": pool " + settings.name + " cannot have confinement " +
            std::string(to_string(*settings.confinement)) +
            (fits ? " on this machine (" + choice.reason + ")" : ": its backing is not confined that way"));
  }
  std::string reasons;
  for (const Confinement confinement : possible) {
    Choice choice = take(confiners, confinement);
    if (choice.confiner != nullptr) {
      choice.reason = reasons;
      warn(choice, settings);
      return choice;
    }
    reasons += (reasons.empty() ? "" : "; ") + choice.reason;
  }
  return failure(ErrorCode::unsupported,
                 settings.where + ": this machine cannot make the descriptors of pool " + settings.name +
                     " mmap-only (" + reasons + "); run `mapcap doctor`" +
                     (settings.backing == Backing::memory && !settings.secret
                          ? ", or accept weaker ones with confinement = \"sealed\""
                          : ""));
}

}  // namespace

bool needs_power(const PoolSettings& pool, bool clones) {
  if (pool.backing == Backing::dax_device || pool.backing == Backing::pci_bar) return true;
  if (pool.confinement == Confinement::lsm || pool.end_holders_after) return true;
  // Without clones lsm is what is left, but for those that want neither.
  return !clones && !pool.secret && pool.confinement != Confinement::sealed;
}

Result<std::unique_ptr<ServedPool>> open_pool(const PoolSettings& settings, Confiners& confiners,
                                              std::uint32_t ledger) {
  if (confiners.power.elsewhere() && needs_power(settings, confiners.clone_unavailable.empty())) {
    return failure(ErrorCode::unsupported,
                   settings.where + ": pool " + settings.name +
                       " takes a restart of mapcapd: it has given up the power that devices and lsm need");
  }
  auto served = std::make_unique<ServedPool>();
  MAPCAP_TRY(Choice choice, choose(settings, confiners));
  Result<std::unique_ptr<pool::Pool>> opened =
      open_backing(settings, choice.confiner->kind(), ledger, confiners.power);
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
  served->confiner = choice.confiner;
  served->confinement_reason = choice.reason;
  return served;
}

Result<ServedPools> open_pools(const policy::Policy& policy, Confiners& confiners, std::uint32_t ledger) {
  ServedPools pools;
  (void)dax_files_endanger_the_kernel();
  MAPCAP_TRY_VOID(policy::check_machine(policy.pools(), machine::total_memory()));
  for (const PoolSettings& settings : policy.pools()) {
    MAPCAP_TRY(std::unique_ptr<ServedPool> served, open_pool(settings, confiners, ledger));
    pools.push_back(std::move(served));
  }
  return pools;
}

}  // namespace mapcap::broker
