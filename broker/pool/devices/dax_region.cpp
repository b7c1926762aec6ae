#include "broker/pool/devices/dax_region.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <map>
#include <mutex>
#include <optional>

#include "broker/pool/devices/dax_node.h"
#include "broker/pool/devices/device_pool.h"
#include "broker/pool/persistence.h"

namespace mapcap::broker::pool {

namespace {

/// Devices with bad blocks that a carving puts aside before it gives up.
constexpr std::uint64_t kMostDamaged = 16;
/// Where in a piece's number the attempt is counted; ids of regions do not come that far.
constexpr unsigned kAttemptBit = 58;

class DaxRegionPool final : public Pool {
 public:
  DaxRegionPool(DaxRegionOptions options, std::unique_ptr<Divider> divider, const Durability& durability)
      : options_(std::move(options)), divider_(std::move(divider)), whole_(divider_->whole()) {
    facts_.name = options_.name;
    facts_.backing = "dax-device";
    facts_.capacity = of_the_whole(options_.capacity);
    facts_.granule = divider_->granule();
    facts_.seals = {SealKind::irrevocable};
    facts_.cache_modes = {CacheMode::write_back};
    facts_.durability = durability;
    facts_.volatile_memory = false;
    facts_.may_return = options_.may_return;
    facts_.end_holders_after = options_.end_holders_after;
  }

  [[nodiscard]] const Facts& facts() const override { return facts_; }
  Result<ByteCount> capacity_for(const Wanted& wanted) override {
    if (!wanted) return whole_;
    const auto* percent = std::get_if<std::uint32_t>(&*wanted);
    return percent != nullptr ? of_the_whole(*percent) : of_the_whole(std::get<ByteCount>(*wanted));
  }
  [[nodiscard]] bool quick() const override { return false; }
  Result<ByteCount> size_for(ByteCount asked, CacheMode) override { return divider_->size_for(asked); }

  Result<Extent> carve(const Carving& carving, const Progress& progress) override {
    (void)free_discarded();  // What stays is tried again with the next.
    MAPCAP_TRY(const Made made, make_sound(carving));
    // From here on an Extent undoes it.
    Extent extent(*this, Fd(), carving.size, made.word);
    MAPCAP_TRY_VOID(scrub_device(made.node.path, made.node.size, Scrub::non_temporal, progress));
    MAPCAP_TRY_VOID(verify(made.word, made.node.path));
    MAPCAP_TRY(Fd fd, look_at(made.node.path));
    Extent whole(*this, std::move(fd), carving.size, made.word);
    extent.keep();
    return whole;
  }

  Result<Extent> reattach(const ledger::RegionRecord& record, Fd) override {
    const std::lock_guard lock(divider_mutex_);
    if (record.state == RegionState::live) own_.push_back(record.extent);
    if (!at_start_) {
      MAPCAP_TRY(at_start_, divider_->list());
    }
    const auto piece = std::find_if(at_start_->begin(), at_start_->end(),
                                    [&](const Piece& each) { return each.word == record.extent; });
    if (piece == at_start_->end() || piece->path.empty()) {
      return failure(ErrorCode::lost, "the device of region " + record.name + " is gone from " +
                                          options_.region + ", or was disabled");
    }
    MAPCAP_TRY(DaxNode node, read_dax_node(where(), piece->path));
    if (node.size != record.size) {
      return failure(ErrorCode::lost, "the device of region " + record.name + " has changed its size");
    }
    MAPCAP_TRY(Fd fd, look_at(piece->path));
    remember(record.extent, std::move(node), Granted::yes);
    MAPCAP_TRY_VOID(verify(record.extent, piece->path));
    Extent extent(*this, std::move(fd), record.size, record.extent);
    extent.keep();
    return extent;
  }

  bool granting(const Extent& extent) noexcept override {
    const std::lock_guard lock(mutex_);
    const auto found = devices_.find(extent.word());
    return found != devices_.end() && !std::exchange(found->second.granted, true);
  }

  void never_granted(const Extent& extent) noexcept override {
    const std::lock_guard lock(mutex_);
    if (const auto found = devices_.find(extent.word()); found != devices_.end())
      found->second.granted = false;
  }

  Result<void> cut(Extent& extent, SealKind) override {
    const Result<bool> is_held = held(extent);
    if (is_held && !is_held.value()) return ok();
    return failure(
        ErrorCode::unsupported,
        "a device cannot be taken from those who have it open, mapped or pinned: it comes back when " +
            (is_held ? "they end" : "the machine boots (" + is_held.error().sentence + ")"));
  }

  Result<bool> held(const Extent& extent) override {
    const std::optional<Known> known = find(extent.word());
    if (!known || !known->granted) return false;
    return is_held(*options_.census, known->node, extent.fd());
  }

  Result<void> forbid_writing(const Extent& extent) override {
    MAPCAP_TRY(const bool somebody, held(extent));
    return check_unwritten(somebody);
  }

  Result<std::size_t> end_holders(const Extent& extent) override {
    return device_holders::end_processes(*options_.census, extent.fd());
  }

  Result<void> free(Extent& extent, const Progress&) override {
    extent.take_fd().reset();
    MAPCAP_TRY_VOID(remove(extent.word()));
    forget(extent.word());
    return ok();
  }

  void discard(Extent& extent) noexcept override {
    extent.take_fd().reset();
    const std::lock_guard lock(mutex_);
    discarded_.push_back(extent.word());
  }

  Result<void> free_discarded() override {
    std::vector<std::uint64_t> words;
    {
      const std::lock_guard lock(mutex_);
      words.swap(discarded_);
    }
    Result<void> all = ok();
    for (const std::uint64_t word : words) {
      if (Result<void> removed = remove(word); removed) {
        forget(word);
      } else {
        all = removed;
        const std::lock_guard lock(mutex_);
        discarded_.push_back(word);
      }
    }
    return all;
  }

  Result<void> sweep(const Recorded& recorded) override {
    const std::lock_guard lock(divider_mutex_);
    recorded_ = recorded;
    at_start_.reset();
    MAPCAP_TRY(const std::vector<Piece> pieces, divider_->list());
    Result<void> all = ok();
    for (const Piece& piece : pieces) {
      if (is_recorded(piece)) continue;
      if (Result<void> gone = put_away(piece); !gone) all = gone;
    }
    if (!all) return all;
    MAPCAP_TRY(const std::vector<std::string> strangers, divider_->strangers());
    if (strangers.empty()) return ok();
    return nobodys(options_.region, "namespaces", strangers);
  }

  [[nodiscard]] bool cache_verified() const override { return verified_; }
  [[nodiscard]] bool cache_verified(const Extent& extent) override {
    const std::optional<Known> known = find(extent.word());
    return known && known->verified;
  }

  [[nodiscard]] bool wears_out() const override { return true; }
  std::uint32_t bad_blocks(std::uint64_t word) override {
    const std::optional<Known> known = find(word);
    if (!known) return 0;
    std::uint64_t sectors = 0;
    for (const ByteRange& part : damaged_parts(known->node.sysfs, known->node.ranges)) {
      sectors += (part.size + kSector - 1) / kSector;
    }
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(sectors, UINT32_MAX));
  }

 private:
  [[nodiscard]] ByteCount of_the_whole(const std::variant<std::uint32_t, ByteCount>& wanted) const {
    if (const auto* percent = std::get_if<std::uint32_t>(&wanted)) return {whole_.value / 100 * *percent};
    return std::min(std::get<ByteCount>(wanted), whole_);
  }

  struct Made {
    std::uint64_t word = 0;
    DaxNode node;
  };
  struct Known {
    DaxNode node;
    bool granted = false;   ///< Somebody may have a descriptor.
    bool verified = false;  ///< Its cache mode was read back.
  };

  [[nodiscard]] std::string where() const { return "pool " + facts_.name + ": "; }

  /// A new device of that size without bad blocks. Those with some are made, put aside, and destroyed in the
  /// end: only while they stand does the kernel place the next one elsewhere.
  Result<Made> make_sound(const Carving& carving) {
    const std::lock_guard lock(divider_mutex_);
    std::vector<std::uint64_t> damaged;
    Result<Made> sound = failure(ErrorCode::pool_full, where() + options_.region +
                                                           " has no stretch without bad blocks left for " +
                                                           format_bytes(carving.size));
    for (std::uint64_t attempt = 0; attempt < kMostDamaged; ++attempt) {
      const std::uint64_t number = carving.id.value | attempt << kAttemptBit;
      Result<Piece> piece = divider_->make(number, carving.size);
      if (!piece) {
        sound = piece.error();
        remove_half_made(number);
        break;
      }
      Result<DaxNode> node = read_dax_node(where(), piece.value().path);
      if (node && node.value().size != carving.size) {
        node = failure(ErrorCode::io, where() + "the new device " + node.value().path + " has " +
                                          format_bytes(node.value().size) + ", not " +
                                          format_bytes(carving.size));
      }
      if (node && damaged_parts(node.value().sysfs, node.value().ranges).empty()) {
        remember(piece.value().word, node.value(), Granted::no);
        sound = Made{piece.value().word, std::move(node.value())};
        break;
      }
      damaged.push_back(piece.value().word);
      if (!node) {
        sound = node.error();
        break;
      }
    }
    for (const std::uint64_t word : damaged)
      (void)divider_->remove(word);  // What stays goes with the next sweep.
    return sound;
  }

  /// What make() left when it failed: nobody else is making anything.
  void remove_half_made(std::uint64_t number) {
    const Result<std::vector<Piece>> pieces = divider_->list();
    if (!pieces) return;
    for (const Piece& piece : pieces.value()) {
      const bool nameless = !facts_.may_return && piece.path.empty() && !is_recorded(piece);
      if (piece.word == number || nameless) (void)divider_->remove(piece.word);
    }
  }

  /// Words of other pools' records count where names tell pieces apart; where a piece is told by no more than
  /// its number, only this pool's.
  [[nodiscard]] bool is_recorded(const Piece& piece) {
    if (find(piece.word)) return true;
    if (facts_.may_return) return recorded_.contains(piece.word);
    return std::any_of(own_.begin(), own_.end(),
                       [&](std::uint64_t word) { return divider_->is(piece, word); });
  }

  /// A piece that no record names.
  Result<void> put_away(const Piece& piece) {
    MAPCAP_TRY_VOID(check_unheld(piece));
    if (recorded_.complete || !facts_.may_return) return divider_->remove(piece.word);
    return divider_->disown(piece.word);
  }

  Result<void> check_unheld(const Piece& piece) {
    if (piece.path.empty()) return ok();
    MAPCAP_TRY(const DaxNode node, read_dax_node(where(), piece.path));
    MAPCAP_TRY(const Fd fd, look_at(piece.path));
    MAPCAP_TRY(const bool somebody, is_held(*options_.census, node, fd.borrow()));
    if (!somebody) return ok();
    return failure(ErrorCode::busy,
                   where() + piece.path + " is in nobody's record, but somebody has it open");
  }

  /// Reads back how the device is mapped. Errors: `cache_mode` when it is not what the pool says.
  Result<void> verify(std::uint64_t word, const std::string& path) {
    if (!options_.cache_reader) return ok();
    const Fd device(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!device.valid()) return io_error(where() + "opening " + path, errno);
    const Result<CacheMode> mode = options_.cache_reader(device.borrow());
    if (!mode) return ok();  // It stays told as not verified.
    if (mode.value() != CacheMode::write_back) {
      return failure(ErrorCode::cache_mode,
                     where() + path + " is mapped " + std::string(to_string(mode.value())) + ", not wb");
    }
    const std::lock_guard lock(mutex_);
    devices_[word].verified = true;
    verified_ = true;
    return ok();
  }

  Result<void> remove(std::uint64_t word) {
    const std::lock_guard lock(divider_mutex_);
    return divider_->remove(word);
  }

  /// O_PATH: an open description of the broker's own would count as a holder.
  [[nodiscard]] Result<Fd> look_at(const std::string& path) const {
    Fd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!fd.valid()) return io_error(where() + "opening " + path, errno);
    return fd;
  }

  void remember(std::uint64_t word, DaxNode node, Granted granted) {
    const std::lock_guard lock(mutex_);
    devices_[word] = {std::move(node), granted == Granted::yes, false};
  }
  void forget(std::uint64_t word) {
    const std::lock_guard lock(mutex_);
    devices_.erase(word);
  }
  std::optional<Known> find(std::uint64_t word) {
    const std::lock_guard lock(mutex_);
    const auto found = devices_.find(word);
    if (found == devices_.end()) return std::nullopt;
    return found->second;
  }
  DaxRegionOptions options_;
  Facts facts_;
  std::mutex divider_mutex_;  ///< Taken before mutex_.
  std::unique_ptr<Divider> divider_;
  const ByteCount whole_;
  std::optional<std::vector<Piece>> at_start_;  ///< Only while records are reattached.
  std::atomic<bool> verified_ = false;          ///< A device of this region was seen to be mapped as told.
  Recorded
      recorded_;  ///< When the broker started: whatever is wrong with these namespaces, they may come back.
  std::vector<std::uint64_t> own_;  ///< Words of this pool's live regions when the broker started.
  std::mutex mutex_;
  std::map<std::uint64_t, Known> devices_;  ///< By word.
  std::vector<std::uint64_t> discarded_;
};

/// "7" -> 7
std::optional<int> number_of(const std::string& text) {
  int number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, bad] = std::from_chars(text.data(), end, number);
  if (text.empty() || bad != std::errc() || rest != end || number < 0) return std::nullopt;
  return number;
}

Durability durability_of(const std::string& region) {
  const auto domain = persistence_domain("/sys/bus/nd/devices/" + region);
  if (!domain) return {Granularity::none, PersistenceDomain::volatile_memory, false};
  return {granularity_of(*domain), *domain, true};
}

}  // namespace

std::unique_ptr<Pool> make_dax_region(DaxRegionOptions options, std::unique_ptr<Divider> divider,
                                      const Durability& durability) {
  return std::make_unique<DaxRegionPool>(std::move(options), std::move(divider), durability);
}

Result<std::unique_ptr<Pool>> open_dax_region(DaxRegionOptions options) {
  const std::string where = "pool " + options.name + ": ";
  if (!options.census) {
    return failure(ErrorCode::unsupported,
                   where +
                       "dividing a region needs a BPF program that counts the holders of devices, which this "
                       "build or kernel does not have; list devices instead");
  }
  const std::optional<int> number = number_of(options.region);
  if (!number && !options.region.starts_with("region")) {
    return failure(ErrorCode::invalid, where + "region \"" + options.region +
                                           "\" is neither one of ndctl (\"region0\") nor of daxctl (\"0\")");
  }
  Result<std::unique_ptr<Divider>> divider =
      number ? divide_dax(options.name, *number)
             : divide_nvdimm(options.name, options.region, options.ledger);
  if (!divider) {
    Failure error = divider.error();
    error.sentence = where + error.sentence;
    return error;
  }
  const Durability durability = number
                                    ? Durability{Granularity::none, PersistenceDomain::volatile_memory, false}
                                    : durability_of(options.region);
  options.may_return = !number;  // Nothing of a dynamic region outlives a reboot.
  return make_dax_region(std::move(options), std::move(divider.value()), durability);
}

}  // namespace mapcap::broker::pool
