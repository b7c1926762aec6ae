#include "broker/pool/devices/device_pool.h"

#include <emmintrin.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/hash.h"

namespace mapcap::broker::pool {

namespace {

/// What a record remembers a device by, whatever its place in the policy's list.
std::uint64_t word_of(const Device& device) {
  return fnv1a(device.identity.empty() ? device.modes.front().path : device.identity);
}

class DevicePool final : public Pool {
 public:
  explicit DevicePool(DevicePoolParts parts) : parts_(std::move(parts)), states_(parts_.devices.size()) {
    for (const Device& device : parts_.devices) parts_.facts.capacity.value += device.size.value;
  }

  [[nodiscard]] const Facts& facts() const override { return parts_.facts; }
  [[nodiscard]] bool quick() const override { return false; }

  Result<ByteCount> size_for(ByteCount asked, CacheMode cache) override {
    const std::lock_guard lock(mutex_);
    const Device* best = nullptr;
    for (std::size_t i = 0; i < states_.size(); ++i) {
      const Device& device = parts_.devices[i];
      if (states_[i].taken || device.size < asked || mode_of(device, cache) == nullptr) continue;
      if (best == nullptr || device.size < best->size) best = &device;
    }
    if (best != nullptr) return best->size;
    return failure(ErrorCode::pool_full,
                   "pool " + parts_.facts.name + " has no free device of " + format_bytes(asked) +
                       " for cache mode " + std::string(to_string(cache)),
                   {{"slot", "pool " + parts_.facts.name}, {"asked", std::to_string(asked.value)}});
  }

  Result<Extent> carve(const Carving& carving, const Progress& progress) override {
    MAPCAP_TRY(const std::size_t taken, take_fit(carving));
    const Device& device = parts_.devices[taken];
    const Device::Mode& mode = *mode_of(device, carving.cache);
    Result<void> ready = scrub_device(mode.path, device.size, parts_.scrub, progress);
    Result<Fd> fd = ready ? look_at(mode.path) : Result<Fd>(ready.error());
    if (!fd) {
      release(taken);
      return fd.error();
    }
    return Extent(*this, std::move(fd.value()), device.size, word_of(device));
  }

  Result<Extent> reattach(const ledger::RegionRecord& record, Fd) override {
    const std::optional<std::size_t> found = find(record.extent);
    if (!found) {
      return failure(ErrorCode::lost,
                     "the device of region " + record.name + " is no longer in pool " + parts_.facts.name);
    }
    const Device& device = parts_.devices[*found];
    const Device::Mode* mode = mode_of(device, record.cache_effective);
    {
      const std::lock_guard lock(mutex_);
      if (states_[*found].taken) {
        return failure(ErrorCode::lost,
                       "the device of region " + record.name + " is another region's by now");
      }
      states_[*found] = reserved(device);
    }
    if (mode == nullptr || device.size != record.size) {
      return failure(ErrorCode::lost, "the device of region " + record.name +
                                          " is not what it was: its size or cache modes have changed");
    }
    MAPCAP_TRY(Fd fd, look_at(mode->path));
    Extent extent(*this, std::move(fd), device.size, record.extent);
    extent.keep();
    return extent;
  }

  /// A device that is another pool's in some record, such as that of a lost region, waits for it.
  Result<void> sweep(const Recorded& recorded) override {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < states_.size(); ++i) {
      const Device& device = parts_.devices[i];
      if (!states_[i].taken && recorded.contains(word_of(device))) states_[i] = reserved(device);
    }
    return ok();
  }

  bool granting(const Extent& extent) noexcept override {
    const std::optional<std::size_t> found = find(extent.word());
    const std::lock_guard lock(mutex_);
    if (!found || states_[*found].granted) return false;
    states_[*found].granted = true;
    if (parts_.note) parts_.note(parts_.devices[*found], Granted::yes);
    return true;
  }

  void never_granted(const Extent& extent) noexcept override {
    const std::optional<std::size_t> found = find(extent.word());
    const std::lock_guard lock(mutex_);
    if (!found) return;
    states_[*found].granted = false;
    if (parts_.note) parts_.note(parts_.devices[*found], Granted::no);
  }

  Result<void> cut(Extent& extent, SealKind) override {
    const Result<bool> is_held = held(extent);
    if (is_held && !is_held.value()) return ok();
    return failure(ErrorCode::unsupported,
                   "a " + parts_.facts.backing +
                       " region cannot be taken from those who have it: it comes back when " +
                       (is_held ? "they end" : "the machine boots (" + is_held.error().sentence + ")"));
  }

  Result<bool> held(const Extent& extent) override {
    const std::optional<std::size_t> found = find(extent.word());
    {
      const std::lock_guard lock(mutex_);
      if (!found || !states_[*found].granted) return false;
    }
    if (!parts_.held) return true;
    return parts_.held(parts_.devices[*found], extent.fd());
  }

  Result<void> forbid_writing(const Extent& extent) override {
    MAPCAP_TRY(const bool somebody, held(extent));
    if (somebody && !parts_.held) {
      return failure(ErrorCode::unsupported,
                     "regions of pool " + parts_.facts.name +
                         " cannot be published once they were granted: this machine cannot "
                         "tell who has a device (mapcap doctor says why)");
    }
    return check_unwritten(somebody);
  }

  Result<std::size_t> end_holders(const Extent& extent) override {
    return parts_.end_holders ? parts_.end_holders(extent.fd()) : Result<std::size_t>(std::size_t{0});
  }

  [[nodiscard]] bool wears_out() const override { return static_cast<bool>(parts_.bad_blocks); }
  std::uint32_t bad_blocks(std::uint64_t word) override {
    const std::optional<std::size_t> found = find(word);
    return found && parts_.bad_blocks ? parts_.bad_blocks(parts_.devices[*found]) : 0;
  }

  Result<void> free(Extent& extent, const Progress&) override {
    extent.take_fd().reset();
    if (const std::optional<std::size_t> found = find(extent.word())) release(*found);
    return ok();
  }

  void discard(Extent& extent) noexcept override {
    extent.take_fd().reset();
    if (const std::optional<std::size_t> found = find(extent.word())) release(*found);
  }

 private:
  struct State {
    bool taken = false;
    bool granted = false;  ///< In this boot: somebody may have a descriptor.
  };

  [[nodiscard]] State reserved(const Device& device) const {
    return {true, !parts_.noted || parts_.noted(device)};
  }

  static const Device::Mode* mode_of(const Device& device, CacheMode cache) {
    for (const Device::Mode& mode : device.modes) {
      if (mode.cache == cache) return &mode;
    }
    return nullptr;
  }

  /// O_PATH: an open description of the broker's own would count as a holder, and would have mapped the
  /// device with a mode of its own.
  Result<Fd> look_at(const std::string& path) const {
    Fd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!fd.valid()) return io_error("pool " + parts_.facts.name + ": opening " + path, errno);
    return fd;
  }

  /// A device that may be granted. Those that may not are kept meanwhile, so that each is asked about once.
  Result<std::size_t> take_fit(const Carving& carving) {
    std::vector<std::size_t> unfit;
    Result<std::size_t> fit =
        failure(ErrorCode::pool_full,
                "pool " + parts_.facts.name + " has just given its last device of that size away");
    for (std::optional<std::size_t> taken = take(carving); taken; taken = take(carving)) {
      const Device& device = parts_.devices[*taken];
      Result<void> checked = check_unheld(device);
      if (checked && parts_.check) checked = parts_.check(device, *mode_of(device, carving.cache));
      if (checked) {
        fit = *taken;
        break;
      }
      fit = checked.error();
      unfit.push_back(*taken);
    }
    for (const std::size_t index : unfit) release(index);
    return fit;
  }

  /// No region has it, but somebody may since one had: when its record was lost, or another pool's.
  [[nodiscard]] Result<void> check_unheld(const Device& device) const {
    const std::string& path = device.modes.front().path;
    Result<bool> somebody = failure(ErrorCode::unsupported, "");
    if (parts_.held) {
      MAPCAP_TRY(const Fd node, look_at(path));
      somebody = parts_.held(device, node.borrow());
    }
    if (!somebody) somebody = parts_.noted && parts_.noted(device);
    if (!somebody.value()) return ok();
    return failure(ErrorCode::busy, "pool " + parts_.facts.name + ": " + path +
                                        " is no region's, but somebody has it open or mapped");
  }

  std::optional<std::size_t> take(const Carving& carving) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < states_.size(); ++i) {
      const Device& device = parts_.devices[i];
      if (states_[i].taken || device.size != carving.size || mode_of(device, carving.cache) == nullptr)
        continue;
      states_[i] = {true, false};
      return i;
    }
    return std::nullopt;
  }

  void release(std::size_t index) noexcept {
    const std::lock_guard lock(mutex_);
    if (states_[index].granted && parts_.note) parts_.note(parts_.devices[index], Granted::no);
    states_[index] = {};
  }

  [[nodiscard]] std::optional<std::size_t> find(std::uint64_t word) const {
    for (std::size_t i = 0; i < parts_.devices.size(); ++i) {
      if (word_of(parts_.devices[i]) == word) return i;
    }
    return std::nullopt;
  }

  DevicePoolParts parts_;
  std::mutex mutex_;
  std::vector<State> states_;  ///< Of the device with the same index.
};

void zero(void* at, std::size_t size, Scrub how) {
  if (how == Scrub::non_temporal) {
    auto* lines = static_cast<__m128i*>(at);
    for (std::size_t i = 0; i < size / sizeof(__m128i); ++i) _mm_stream_si128(lines + i, _mm_setzero_si128());
    _mm_sfence();
    return;
  }
  // Devices behind BARs may insist on whole words, one access each.
  auto* words = static_cast<volatile std::uint64_t*>(at);
  for (std::size_t i = 0; i < size / sizeof(std::uint64_t); ++i) words[i] = 0;
  _mm_sfence();  // Drains what write-combining still gathers.
}

}  // namespace

Result<void> check_unwritten(bool held) {
  if (!held) return ok();
  return failure(ErrorCode::busy,
                 "somebody has its device open, mapped or pinned, and nobody can tell whether for writing",
                 {{"by", "writers"}});
}

std::unique_ptr<Pool> make_device_pool(DevicePoolParts parts) {
  return std::make_unique<DevicePool>(std::move(parts));
}

Result<void> scrub_device(const std::string& path, ByteCount size, Scrub how, const Progress& progress) {
  const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return io_error("opening " + path, errno);
  // A multiple of every alignment that devices have but 1 GiB ones, whose page a smaller mapping cannot
  // split.
  constexpr std::uint64_t kGiant = 1ULL << 30U;
  constexpr std::uint64_t kUsual = 64ULL << 20U;
  const std::uint64_t chunk = how == Scrub::non_temporal && size.value % kGiant == 0 ? kGiant : kUsual;
  for (std::uint64_t done = 0; done < size.value; done += chunk) {
    const std::uint64_t step = std::min(chunk, size.value - done);
    // SAFETY: a fresh mapping at an address of the kernel's choice, within the device's size, unmapped below.
    void* at = ::mmap(nullptr, step, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), static_cast<off_t>(done));
    if (at == MAP_FAILED) return io_error("mapping " + path, errno);
    zero(at, step, how);
    ::munmap(at, step);
    if (progress) progress({done + step}, size);
  }
  return ok();
}

}  // namespace mapcap::broker::pool
