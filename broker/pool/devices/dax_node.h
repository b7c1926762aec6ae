// A device-DAX node as sysfs describes it: /dev/daxX.Y, a namespace in devdax mode or a dynamic dax device.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "broker/bpf/device_holders/device_holders.h"
#include "broker/pool/bad_blocks.h"
#include "mapcap/words.h"

namespace mapcap::broker::pool {

struct DaxNode {
  std::string path;             ///< "/dev/dax0.1"
  std::filesystem::path sysfs;  ///< Of the device, every link followed.
  ByteCount size;
  ByteCount alignment;                        ///< What it can be mapped in.
  std::vector<device_holders::Range> ranges;  ///< Where its bytes are, in their order.
  std::string uuid;                           ///< A namespace's, whatever its number; else empty.
  Durability durability;                      ///< Soft-reserved DRAM and CXL memory promise nothing.
};

/// Errors, each beginning with `where`: `not_found` (no such node), `invalid` (not a device-DAX node, not
/// root's alone, or without memory), `io`.
Result<DaxNode> read_dax_node(const std::string& where, const std::string& path);

/// Whether somebody has the device open, or pins its memory. `node`: an O_PATH descriptor of it. Errors:
/// `io`, `unsupported` when that cannot be known.
Result<bool> is_held(device_holders::Census& census, const DaxNode& node, BorrowedFd fd);

/// The damaged bytes of a device, from the list that its NVDIMM region keeps (ndctl(1): inject-error and
/// clear-errors); relative to the device, ascending. `sysfs` and `ranges` as in DaxNode.
std::vector<ByteRange> damaged_parts(const std::filesystem::path& sysfs,
                                     const std::vector<device_holders::Range>& ranges);

}  // namespace mapcap::broker::pool
