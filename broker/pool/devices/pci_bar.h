// The `pci-bar` pool: memory of PCI devices, one BAR a region, for real uncached and write-combining
// mappings.
//
// sysfs offers a BAR as resourceN (uncached) and, when it is prefetchable, as resourceN_wc (write-combining).
// The first mapping decides the page attribute for all others without a word, so the pool keeps other brokers
// out by a lock, refuses a BAR that the kernel shows as mapped by somebody else
// (/sys/kernel/debug/x86/pat_memtype_list, where debugfs is mounted), and reads its own mapping's attribute
// back from there at start.
//
// A BAR is not revocable: nothing takes a mapping away, not even removing the device. It comes back when the
// last holder ends. A holder that moves pieces of its mapping about (mremap) makes kernels forget to take
// back the reservation of its cache mode (seen on Linux 6.12): such a BAR counts as mapped by somebody else
// until the next boot.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "broker/bpf/device_holders/device_holders.h"
#include "broker/pool/pool.h"

namespace mapcap::broker::pool {

struct PciBarOptions {
  std::string name;
  std::vector<std::string> resources;  ///< "/sys/bus/pci/devices/0000:00:04.0/resource2", also with _wc.
  std::vector<CacheMode> cache;        ///< Allowed; empty: every one that is obtainable.
  /// Nothing: a BAR that was granted once is not granted again before the next boot.
  std::shared_ptr<device_holders::Census> census;
  std::optional<std::chrono::nanoseconds> end_holders_after = {};  ///< As in Facts.
  /// Locks, and what must be forgotten with a boot: a directory on a filesystem that is.
  std::string locks = "/run/mapcap-bars";
};

/// Errors: `not_found` (no such file), `invalid` (not a BAR), `busy` (locked, or mapped by somebody else),
/// `unsupported` (cannot be mapped: a driver has it, the device is disabled, or lockdown), `cache_mode` (none
/// of those allowed can be had), `io`.
Result<std::unique_ptr<Pool>> open_pci_bar(const PciBarOptions& options);

}  // namespace mapcap::broker::pool
