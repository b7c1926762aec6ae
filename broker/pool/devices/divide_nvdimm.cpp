// Namespaces in devdax mode, through libndctl. A context caches what it has listed: each operation makes its
// own.
#include <daxctl/libdaxctl.h>
#include <ndctl/libndctl.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "broker/pool/devices/divider.h"
#include "broker/pool/namespace_size.h"
#include "broker/pool/pool.h"

namespace mapcap::broker::pool {

namespace {

/// Names of namespaces begin so; of those whose records were lost. A name has at most 63 characters.
constexpr std::string_view kMapcap = "mapcap-";
constexpr std::string_view kDisowned = "disowned-";
constexpr unsigned kLabelled = 5;  ///< ND_DEVICE_NAMESPACE_PMEM: may have several namespaces.

struct Unref {
  void operator()(ndctl_ctx* context) const { ndctl_unref(context); }
};
using Context = std::unique_ptr<ndctl_ctx, Unref>;

Result<Context> new_context() {
  ndctl_ctx* made = nullptr;
  if (const int failed = ndctl_new(&made); failed != 0) return io_error("ndctl_new", -failed);
  return Context(made);
}

ndctl_region* find_region(ndctl_ctx* context, const std::string& name) {
  ndctl_bus* bus = nullptr;
  ndctl_region* region = nullptr;
  ndctl_bus_foreach(context, bus) {
    ndctl_region_foreach(bus, region) {
      if (name == ndctl_region_get_devname(region)) return region;
    }
  }
  return nullptr;
}

/// Version 4 of RFC 4122.
Result<void> random_uuid(uuid_t& uuid) {
  if (::getrandom(uuid, sizeof(uuid_t), 0) != sizeof(uuid_t)) return io_error("getrandom", errno);
  uuid[6] = static_cast<unsigned char>((uuid[6] & 0x0fU) | 0x40U);
  uuid[8] = static_cast<unsigned char>((uuid[8] & 0x3fU) | 0x80U);
  return ok();
}

class NvdimmDivider final : public Divider {
 public:
  NvdimmDivider(const std::string& pool, std::uint32_t ledger, std::string region, ByteCount whole,
                ByteCount granule)
      : pool_(pool + "-"),
        prefix_(std::string(kMapcap) + pool_ + tag_of(ledger) + "-"),
        region_(std::move(region)),
        whole_(whole),
        granule_(granule) {}

  [[nodiscard]] ByteCount whole() const override { return whole_; }
  [[nodiscard]] ByteCount granule() const override { return granule_; }

  [[nodiscard]] ByteCount size_for(ByteCount asked) const override { return {usable_size(raw_for(asked))}; }

  Result<Piece> make(std::uint64_t number, ByteCount size) override {
    MAPCAP_TRY(const Context context, new_context());
    MAPCAP_TRY(ndctl_region * region, region_in(context));
    // The kernel registers the next seeds in the background, after the last namespace was made or destroyed.
    ndctl_bus_wait_probe(ndctl_region_get_bus(region));
    ndctl_namespace* seed = ndctl_region_get_namespace_seed(region);
    ndctl_dax* dax = ndctl_region_get_dax_seed(region);
    if (seed == nullptr || dax == nullptr) return failed("finding a seed for a namespace", -ENODEV);
    uuid_t uuid{};
    // The name first: from the moment that the namespace has memory, it is known whose it is.
    MAPCAP_TRY_VOID(done("naming", ndctl_namespace_set_alt_name(seed, name_of(number).c_str())));
    MAPCAP_TRY_VOID(random_uuid(uuid));
    MAPCAP_TRY_VOID(done("setting the uuid of", ndctl_namespace_set_uuid(seed, uuid)));
    const int sized = ndctl_namespace_set_size(seed, raw_for(size));
    if (sized == -ENOSPC || sized == -ENOMEM) return full(size);
    MAPCAP_TRY_VOID(done("sizing", sized));
    ndctl_namespace_set_enforce_mode(seed, NDCTL_NS_MODE_DEVDAX);  // Not known before Linux 4.13.
    MAPCAP_TRY_VOID(random_uuid(uuid));
    MAPCAP_TRY_VOID(done("setting the dax uuid of", ndctl_dax_set_uuid(dax, uuid)));
    MAPCAP_TRY_VOID(done("placing the page map of", ndctl_dax_set_location(dax, NDCTL_PFN_LOC_PMEM)));
    MAPCAP_TRY_VOID(done("aligning", ndctl_dax_set_align(dax, kNamespaceAlignment)));
    MAPCAP_TRY_VOID(done("claiming", ndctl_dax_set_namespace(dax, seed)));
    MAPCAP_TRY_VOID(done("enabling", ndctl_dax_enable(dax)));
    const std::string path = path_of(dax);
    if (path.empty()) return failed("finding the device of a namespace", -ENODEV);
    return Piece{number, path};
  }

  Result<std::vector<Piece>> list() override {
    MAPCAP_TRY(const Context context, new_context());
    MAPCAP_TRY(ndctl_region * region, region_in(context));
    std::vector<Piece> pieces;
    ndctl_namespace* space = nullptr;
    ndctl_namespace_foreach(region, space) {
      std::uint64_t number = 0;
      if (!is_ours(space, number)) continue;
      ndctl_dax* dax = ndctl_namespace_get_dax(space);
      const bool works = dax != nullptr && ndctl_dax_is_enabled(dax) == 1;
      pieces.push_back({number, works ? path_of(dax) : ""});
    }
    return pieces;
  }

  Result<void> remove(std::uint64_t word) override {
    MAPCAP_TRY(const Context context, new_context());
    MAPCAP_TRY(ndctl_namespace * space, find(context, word));
    if (space == nullptr) return ok();
    MAPCAP_TRY_VOID(release(space));
    return done("deleting", ndctl_namespace_delete(space));
  }

  Result<void> disown(std::uint64_t word) override {
    MAPCAP_TRY(const Context context, new_context());
    MAPCAP_TRY(ndctl_namespace * space, find(context, word));
    if (space == nullptr) return ok();
    ndctl_dax* dax = ndctl_namespace_get_dax(space);
    const bool works = dax != nullptr && ndctl_dax_is_enabled(dax) == 1;
    MAPCAP_TRY_VOID(release(space));
    const std::string name = std::string(kDisowned) + name_of(word).substr(kMapcap.size());
    MAPCAP_TRY_VOID(done("renaming", ndctl_namespace_set_alt_name(space, name.c_str())));
    return works ? done("enabling", ndctl_namespace_enable(space)) : ok();
  }

  Result<std::vector<std::string>> strangers() override {
    MAPCAP_TRY(const Context context, new_context());
    MAPCAP_TRY(ndctl_region * region, region_in(context));
    std::vector<std::string> names;
    ndctl_namespace* space = nullptr;
    ndctl_namespace_foreach(region, space) {
      std::uint64_t number = 0;
      const std::string_view name = alt_name(space);
      if (ndctl_namespace_get_size(space) == 0 || is_ours(space, number)) continue;
      if (name.starts_with(std::string(kMapcap) + pool_) || name.starts_with(std::string(kDisowned) + pool_))
        names.emplace_back(name);
    }
    return names;
  }

 private:
  /// Null when there is none.
  [[nodiscard]] Result<ndctl_namespace*> find(const Context& context, std::uint64_t word) const {
    MAPCAP_TRY(ndctl_region * region, region_in(context));
    ndctl_namespace* space = nullptr;
    ndctl_namespace_foreach(region, space) {
      std::uint64_t number = 0;
      if (is_ours(space, number) && number == word) return space;
    }
    return nullptr;
  }

  /// From its driver and its device, so that it can be changed.
  [[nodiscard]] Result<void> release(ndctl_namespace* space) const {
    MAPCAP_TRY_VOID(done("disabling", ndctl_namespace_disable_safe(space)));
    // Claimed by a device that was never enabled, or already disabled.
    if (ndctl_dax* dax = ndctl_namespace_get_dax(space); dax != nullptr) ndctl_dax_delete(dax);
    return ok();
  }

  /// Of the namespace that holds a device of so many bytes.
  [[nodiscard]] std::uint64_t raw_for(ByteCount asked) const {
    return namespace_size(asked.value, granule_.value);
  }

  [[nodiscard]] std::string name_of(std::uint64_t number) const {
    std::array<char, 17> digits{};
    std::snprintf(digits.data(), digits.size(), "%016lx", number);
    return prefix_ + digits.data();
  }

  [[nodiscard]] bool is_ours(ndctl_namespace* space, std::uint64_t& number) const {
    const std::string_view text = alt_name(space);
    if (!text.starts_with(prefix_) || ndctl_namespace_get_size(space) == 0) return false;
    const char* end = text.data() + text.size();
    const auto [rest, bad] = std::from_chars(text.data() + prefix_.size(), end, number, 16);
    return bad == std::errc() && rest == end;
  }

  static std::string_view alt_name(ndctl_namespace* space) {
    const char* name = ndctl_namespace_get_alt_name(space);
    return name == nullptr ? "" : name;
  }

  static std::string path_of(ndctl_dax* dax) {
    daxctl_region* region = ndctl_dax_get_daxctl_region(dax);
    daxctl_dev* device = region == nullptr ? nullptr : daxctl_dev_get_first(region);
    return device == nullptr ? "" : std::string("/dev/") + daxctl_dev_get_devname(device);
  }

  [[nodiscard]] Result<ndctl_region*> region_in(const Context& context) const {
    ndctl_region* region = find_region(context.get(), region_);
    if (region == nullptr) return failure(ErrorCode::io, "the NVDIMM " + region_ + " is no longer there");
    return region;
  }
  [[nodiscard]] Failure failed(const std::string& what, int error) const {
    return io_error(what + " in " + region_, -error);
  }
  [[nodiscard]] Result<void> done(const std::string& what, int error) const {
    if (error < 0) return failed(what + " a namespace", error);
    return ok();
  }
  [[nodiscard]] Failure full(ByteCount size) const {
    return failure(ErrorCode::pool_full, region_ + " has no free stretch left for " + format_bytes(size));
  }

  std::string pool_;    ///< "nv-"
  std::string prefix_;  ///< "mapcap-nv-1badcafe-"
  std::string region_;
  ByteCount whole_;
  ByteCount granule_;
};

}  // namespace

Result<std::unique_ptr<Divider>> divide_nvdimm(const std::string& pool, const std::string& region,
                                               std::uint32_t ledger) {
  MAPCAP_TRY(const Context context, new_context());
  ndctl_region* found = find_region(context.get(), region);
  if (found == nullptr) {
    return failure(ErrorCode::not_found,
                   "there is no NVDIMM region " + region + "; `ndctl list -R` shows them");
  }
  if (ndctl_region_get_nstype(found) != kLabelled) {
    return failure(ErrorCode::invalid, region +
                                           " has no labels, so it cannot be divided: write them with ndctl "
                                           "init-labels, or list its one device in devices");
  }
  std::error_code missing;
  if (!std::filesystem::exists("/sys/bus/nd/drivers/dax_pmem", missing) ||
      !std::filesystem::exists("/sys/bus/dax/drivers/device_dax", missing)) {
    return failure(ErrorCode::unsupported,
                   "the drivers of devdax namespaces are not loaded: modprobe dax_pmem");
  }
  const unsigned long alignment = ndctl_region_get_align(found);
  const ByteCount granule{alignment == 0 || alignment == ULONG_MAX ? 16U << 20U : alignment};
  return std::unique_ptr<Divider>(std::make_unique<NvdimmDivider>(
      pool, ledger, region, ByteCount{ndctl_region_get_size(found)}, granule));
}

}  // namespace mapcap::broker::pool
