// Dynamic device-DAX devices (soft-reserved DRAM, CXL memory), through libdaxctl. A context caches what it
// has listed: each operation makes its own.
#include <daxctl/libdaxctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/hash.h"

#include "base/small_file.h"
#include "broker/pool/devices/divider.h"

namespace mapcap::broker::pool {

namespace {

struct Unref {
  void operator()(daxctl_ctx* context) const { daxctl_unref(context); }
};
using Context = std::unique_ptr<daxctl_ctx, Unref>;

Result<Context> new_context() {
  daxctl_ctx* made = nullptr;
  if (const int failed = daxctl_new(&made); failed != 0) return io_error("daxctl_new", -failed);
  return Context(made);
}

daxctl_region* find_region(daxctl_ctx* context, int id) {
  daxctl_region* region = nullptr;
  daxctl_region_foreach(context, region) {
    if (daxctl_region_get_id(region) == id) return region;
  }
  return nullptr;
}

/// The device's number in the low bits; above, a hash of the boot and of the inode of its node where it has
/// one.
constexpr unsigned kNumberBits = 16;
constexpr std::uint64_t kNumber = (std::uint64_t{1} << kNumberBits) - 1;

constexpr const char* kBootId = "/proc/sys/kernel/random/boot_id";

Piece piece_of(daxctl_dev* device, const std::string& boot) {
  Piece piece;
  piece.word = static_cast<std::uint64_t>(daxctl_dev_get_id(device)) & kNumber;
  const std::string path = std::string("/dev/") + daxctl_dev_get_devname(device);
  struct stat status {};
  if (daxctl_dev_is_enabled(device) == 1 && ::stat(path.c_str(), &status) == 0) {
    piece.path = path;
    piece.word |= fnv1a(boot + " " + std::to_string(status.st_ino)) << kNumberBits;
  }
  return piece;
}

class DaxDivider final : public Divider {
 public:
  DaxDivider(int region, ByteCount whole, ByteCount granule, std::string boot)
      : region_(region), whole_(whole), granule_(granule), boot_(std::move(boot)) {}

  [[nodiscard]] ByteCount whole() const override { return whole_; }
  [[nodiscard]] ByteCount granule() const override { return granule_; }
  [[nodiscard]] ByteCount size_for(ByteCount asked) const override {
    return {(asked.value + granule_.value - 1) / granule_.value * granule_.value};
  }

  Result<Piece> make(std::uint64_t, ByteCount size) override {
    MAPCAP_TRY_VOID(provide_seed(size));
    MAPCAP_TRY(const Context context, new_context());
    MAPCAP_TRY(daxctl_region * region, region_in(context));
    daxctl_dev* seed = daxctl_region_get_dev_seed(region);
    if (seed == nullptr) return io_error("finding the new device in dax region " + number(), ENODEV);
    const int sized = daxctl_dev_set_size(seed, size.value);
    if (sized == -ENOSPC) return full(size);
    MAPCAP_TRY_VOID(done("sizing a device", sized));
    MAPCAP_TRY_VOID(done("enabling a device", daxctl_dev_enable_devdax(seed)));
    Piece piece = piece_of(seed, boot_);
    if (piece.path.empty()) return io_error("finding the node of a device in dax region " + number(), ENODEV);
    return piece;
  }

  Result<std::vector<Piece>> list() override {
    MAPCAP_TRY(const Context context, new_context());
    MAPCAP_TRY(daxctl_region * region, region_in(context));
    std::vector<Piece> pieces;
    daxctl_dev* device = nullptr;
    daxctl_dev_foreach(region, device) {
      if (daxctl_dev_get_size(device) != 0) pieces.push_back(piece_of(device, boot_));
    }
    return pieces;
  }

  /// A disabled device is told by its number alone: it had another inode, or none.
  [[nodiscard]] bool is(const Piece& piece, std::uint64_t word) const override {
    return piece.word == word || (piece.path.empty() && piece.word == (word & kNumber));
  }

  Result<void> remove(std::uint64_t word) override {
    MAPCAP_TRY(const Context context, new_context());
    MAPCAP_TRY(daxctl_region * region, region_in(context));
    daxctl_dev* device = nullptr;
    daxctl_dev_foreach(region, device) {
      const Piece piece = piece_of(device, boot_);
      if (!is(piece, word)) continue;
      if (!piece.path.empty()) {
        MAPCAP_TRY_VOID(done("disabling a device", daxctl_dev_disable(device)));
      }
      MAPCAP_TRY_VOID(done("emptying a device", daxctl_dev_set_size(device, 0)));
      // The kernel keeps the first device of a region, empty.
      if (daxctl_dev_get_id(device) == 0) return ok();
      return done("destroying a device", daxctl_region_destroy_dev(region, device));
    }
    return ok();
  }

 private:
  /// An empty device that the kernel calls the region's seed: one that an earlier broker was making is taken
  /// on. In a context of its own, for what was listed once does not show what was made since.
  [[nodiscard]] Result<void> provide_seed(ByteCount size) const {
    MAPCAP_TRY(const Context context, new_context());
    MAPCAP_TRY(daxctl_region * region, region_in(context));
    if (daxctl_region_get_available_size(region) < size.value) return full(size);
    daxctl_dev* seed = daxctl_region_get_dev_seed(region);
    if (seed != nullptr && daxctl_dev_is_enabled(seed) == 0 && daxctl_dev_get_size(seed) == 0) return ok();
    return done("making a device", daxctl_region_create_dev(region));
  }

  [[nodiscard]] std::string number() const { return std::to_string(region_); }
  [[nodiscard]] Result<daxctl_region*> region_in(const Context& context) const {
    daxctl_region* region = find_region(context.get(), region_);
    if (region == nullptr) return failure(ErrorCode::io, "dax region " + number() + " is no longer there");
    return region;
  }
  [[nodiscard]] Result<void> done(const std::string& what, int error) const {
    if (error < 0) return io_error(what + " in dax region " + number(), -error);
    return ok();
  }
  [[nodiscard]] Failure full(ByteCount size) const {
    return failure(ErrorCode::pool_full,
                   "dax region " + number() + " has no room left for " + format_bytes(size));
  }

  int region_;
  ByteCount whole_;
  ByteCount granule_;
  std::string boot_;
};

}  // namespace

Result<std::unique_ptr<Divider>> divide_dax(const std::string&, int region) {
  MAPCAP_TRY(const Context context, new_context());
  daxctl_region* found = find_region(context.get(), region);
  if (found == nullptr) {
    return failure(ErrorCode::not_found,
                   "there is no dax region " + std::to_string(region) + "; `daxctl list -R` shows them");
  }
  if (daxctl_region_get_dev_seed(found) == nullptr && daxctl_region_get_available_size(found) == ULLONG_MAX) {
    return failure(ErrorCode::invalid, "dax region " + std::to_string(region) +
                                           " is not dynamic: divide its NVDIMM region instead, or list its "
                                           "device in devices");
  }
  std::error_code missing;
  if (!std::filesystem::exists("/sys/bus/dax/drivers/device_dax", missing)) {
    return failure(ErrorCode::unsupported, "the driver of dax devices is not loaded: modprobe device_dax");
  }
  const unsigned long alignment = daxctl_region_get_align(found);
  const ByteCount granule{alignment == 0 || alignment == ULONG_MAX ? 2U << 20U : alignment};
  std::string boot = first_line_of(kBootId);
  if (boot.empty()) return failure(ErrorCode::io, std::string("cannot read ") + kBootId);
  return std::unique_ptr<Divider>(std::make_unique<DaxDivider>(
      region, ByteCount{daxctl_region_get_size(found)}, granule, std::move(boot)));
}

}  // namespace mapcap::broker::pool
