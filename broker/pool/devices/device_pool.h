// What the pools of whole devices have in common: one region a device, nothing divided.
//
// A device's descriptors can be mapped as long as they are open, also after a revoke, and nothing takes them
// away. So a device goes to the next tenant only when it is known that none is left: because it was never
// granted since the machine booted, or because the pool's `held` denies it. Until then its region stays
// quarantined and charged.
//
// Memory is scrubbed before each grant, not after the last one: so it does not matter where a crash came.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "broker/pool/pool.h"

namespace mapcap::broker::pool {

struct Device {
  struct Mode {
    CacheMode cache = CacheMode::write_back;
    std::string path;
  };
  std::vector<Mode> modes;  ///< At least one; each a file that maps the device with this mode.
  ByteCount size;
  /// What records remember the device by, where its path may name another device after a boot; empty: the
  /// path of the first mode.
  std::string identity{};
};

/// How memory is stored to: cached with non-temporal stores, device memory in whole words.
enum class Scrub : std::uint8_t { non_temporal, words };

enum class Granted : bool { no, yes };

struct DevicePoolParts {
  Facts facts;  ///< Without capacity, which is that of the devices.
  std::vector<Device> devices;
  Scrub scrub = Scrub::non_temporal;
  /// Whether somebody has the device open, or pins its memory; `node` is an O_PATH descriptor of it. Empty,
  /// or with an error: then a device that was granted counts as held until the next boot.
  std::function<Result<bool>(const Device& device, BorrowedFd node)> held;
  /// Pool::end_holders(); may be empty.
  std::function<Result<std::size_t>(BorrowedFd node)> end_holders;
  /// Keeps over the broker's death, but not over a boot, that a device was granted; both may be empty: then
  /// it counts as granted after every restart of the broker.
  std::function<void(const Device& device, Granted granted)> note;
  std::function<bool(const Device& device)> noted;
  /// Damaged sectors of the device; may be empty.
  std::function<std::uint32_t(const Device& device)> bad_blocks;
  /// Asked before a device is scrubbed and granted, with the file that will be; may be empty. Errors: why
  /// not.
  std::function<Result<void>(const Device& device, const Device::Mode& mode)> check;
};

/// What Pool::forbid_writing says of a device that somebody has (Pool::held), or nobody: readers cannot be told from
/// writers, and whoever pins a page has it. Errors: `busy`.
Result<void> check_unwritten(bool held);

std::unique_ptr<Pool> make_device_pool(DevicePoolParts parts);

/// Stores zeros over all of a mapped device and makes them durable as far as stores can. Errors: `io` when it
/// cannot be opened or mapped.
Result<void> scrub_device(const std::string& path, ByteCount size, Scrub how, const Progress& progress);

}  // namespace mapcap::broker::pool
