#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/nearest.h"
#include "base/words.h"
#include "policy/load/loader.h"
#include "policy/load/parts.h"

namespace mapcap::policy {
namespace {

using namespace std::chrono_literals;

Result<Backing> parse_backing(std::string_view text) {
  for (const Backing backing : {Backing::memory, Backing::dax_file, Backing::dax_device, Backing::pci_bar}) {
    if (to_string(backing) == text) return backing;
  }
  return failure(ErrorCode::invalid,
                 not_one_of("backing", text, {"memory", "dax-file", "dax-device", "pci-bar"}));
}

/// Absent inside the Result: automatic.
Result<std::optional<Confinement>> parse_confinement_choice(std::string_view text) {
  if (text == "auto") return std::optional<Confinement>();
  Result<Confinement> chosen = parse_confinement(text);
  if (chosen) return std::optional<Confinement>(chosen.assume_value());
  return failure(ErrorCode::invalid,
                 not_one_of("confinement", text, {"auto", "clone", "native", "lsm", "sealed"}));
}

Result<bool> parse_huge(std::string_view text) {
  if (text == "always" || text == "never") return text == "always";
  return failure(ErrorCode::invalid, not_one_of("huge", text, {"never", "always"}));
}

bool valid_pool_name(std::string_view name) {
  constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !name.empty() && name.size() <= kMaxPoolNameInPolicy &&
         name.find_first_not_of(kAlphabet) == std::string_view::npos && name.front() != '-' &&
         name.front() != '.';
}

/// Lexically normal and absolute, without a trailing slash.
std::optional<std::string> normal_path(Section& section, Position at, const std::string& text) {
  std::string path = std::filesystem::path(text).lexically_normal().string();
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (!path.starts_with('/')) {
    section.problem(at, "\"" + text + "\" is not an absolute path");
    return std::nullopt;
  }
  return path;
}

std::optional<Capacity> read_pool_capacity(Section& section) {
  std::optional<Capacity> capacity = read_capacity(section, "capacity");
  const auto* bytes = capacity ? std::get_if<ByteCount>(&*capacity) : nullptr;
  if (bytes != nullptr && bytes->value < kPageSize) {
    section.problem(section.at("capacity"), "capacity holds less than one page of 4096 bytes");
    return std::nullopt;
  }
  return capacity;
}

std::vector<std::string> read_paths(Section& section, std::string_view key) {
  std::vector<std::string> paths;
  for (const Located<std::string>& element : section.texts(key)) {
    const std::optional<std::string> path = normal_path(section, element.at, element.value);
    if (path) paths.push_back(*path);
  }
  return paths;
}

/// A revoke that ends holders is answered when they are gone, and clients wait 30 s for an answer.
constexpr std::chrono::seconds kLongestWait{20};

/// Keys that only some backings have.
void check_keys_of_backing(Section& section, Backing backing) {
  struct Owned {
    std::string_view key;
    Backing backing;
  };
  for (const Owned& owned :
       {Owned{"populate", Backing::memory}, Owned{"huge", Backing::memory}, Owned{"numa", Backing::memory},
        Owned{"secret", Backing::memory}, Owned{"path", Backing::dax_file},
        Owned{"pin_deadline", Backing::dax_file}, Owned{"devices", Backing::dax_device},
        Owned{"region", Backing::dax_device}, Owned{"resources", Backing::pci_bar}}) {
    if (owned.backing == backing || !section.has(owned.key)) continue;
    section.problem(section.at(owned.key), std::string(owned.key) + " belongs to backing \"" +
                                               std::string(to_string(owned.backing)) + "\", this is \"" +
                                               std::string(to_string(backing)) + "\"");
  }
}

void check_what_backing_needs(Section& section, const PoolSettings& pool) {
  const auto missing = [&](const std::string& what) { section.problem(section.at(), what); };
  switch (pool.backing) {
    case Backing::memory:
      if (!section.has("capacity")) missing("a memory pool needs a capacity, for example \"25%\"");
      if (pool.secret && (pool.huge || pool.numa || pool.populate))
        missing("secret memory cannot be huge, bound to a NUMA node or populated ahead");
      break;
    case Backing::dax_file:
      if (!section.has("path")) missing("a dax-file pool needs the path of a directory");
      break;
    case Backing::dax_device:
      if (section.has("devices") == section.has("region")) {
        missing("a dax-device pool needs either devices or a region to divide");
      }
      if (section.has("devices") && section.has("capacity")) {
        section.problem(section.at("capacity"), "the devices have the capacity that they have");
      }
      break;
    case Backing::pci_bar:
      if (!section.has("resources")) missing("a pci-bar pool needs resources");
      if (section.has("capacity")) section.problem(section.at("capacity"), "a BAR has the size that it has");
      break;
  }
}

/// Which confinement can ever hold which backing (see broker/confine).
bool confinable(const PoolSettings& pool, Confinement confinement) {
  const bool native = pool.backing == Backing::dax_device || pool.backing == Backing::pci_bar || pool.secret;
  switch (confinement) {
    case Confinement::native:
      return native;
    case Confinement::clone:
    case Confinement::lsm:
      return !native;
    case Confinement::sealed:
      return pool.backing == Backing::memory && !pool.secret;
  }
  return false;
}

void check_confinement(Section& section, const PoolSettings& pool) {
  if (pool.confinement && !confinable(pool, *pool.confinement)) {
    section.problem(section.at("confinement"), "confinement \"" + std::string(to_string(*pool.confinement)) +
                                                   "\" is impossible for " + (pool.secret ? "secret " : "") +
                                                   std::string(to_string(pool.backing)));
  }
}

bool is_device(Backing backing) {
  return backing == Backing::dax_device || backing == Backing::pci_bar;
}

std::vector<SealKind> default_seals(const PoolSettings& pool) {
  if (is_device(pool.backing)) return {SealKind::irrevocable};
  if (pool.secret) return {SealKind::sealed};
  if (pool.backing == Backing::memory && !pool.huge) return {SealKind::sealed, SealKind::revocable};
  return {SealKind::revocable};
}

/// Nobody should find out from a region's mode that a key had no effect.
void check_cache(Section& section, const PoolSettings& pool) {
  const bool own_attribute = pool.backing == Backing::pci_bar || !pool.devices.empty();
  if (pool.wt_platform && own_attribute) {
    section.problem(
        section.at("wt_platform"),
        "wt_platform is for memory, files and divided regions: listed devices and BARs are mapped as "
        "their driver does");
  }
  if (pool.backing == Backing::pci_bar) return;
  const CacheMode had = pool.wt_platform ? CacheMode::write_through : CacheMode::write_back;
  for (const CacheMode mode : pool.cache) {
    if (mode == had) continue;
    section.problem(section.at("cache"), "cache mode " + std::string(to_string(mode)) +
                                             " cannot be had of this pool, only " +
                                             std::string(to_string(had)));
  }
}

void check_seals(Section& section, const PoolSettings& pool) {
  const auto has = [&](SealKind kind) {
    return std::find(pool.seals.begin(), pool.seals.end(), kind) != pool.seals.end();
  };
  if (pool.huge && !pool.secret && has(SealKind::sealed)) {
    section.problem(section.at("seals"), "huge pages carry no seals: they are revocable");
  }
  if (pool.secret && has(SealKind::revocable)) {
    section.problem(section.at("seals"), "secret memory cannot be taken from its holders: it is sealed");
  }
  if (pool.backing != Backing::memory && has(SealKind::sealed)) {
    section.problem(section.at("seals"), "only memory can be sealed");
  }
  if (is_device(pool.backing) && has(SealKind::revocable)) {
    section.problem(section.at("seals"),
                    "devices cannot be taken from whoever has them: they are irrevocable");
  }
  if (!is_device(pool.backing) && has(SealKind::irrevocable)) {
    section.problem(section.at("seals"), "only devices are irrevocable");
  }
  if (!is_device(pool.backing) && pool.end_holders_after) {
    section.problem(section.at("end_holders_after"),
                    "end_holders_after is for devices, which nothing else takes from their holders");
  }
}

PoolSettings load_pool(const Entry& entry, const Table& table, Problems& problems) {
  Section section(table, "[pool." + entry.key + "]", entry.at, problems);
  PoolSettings pool;
  pool.name = entry.key;
  pool.where = problems.where(entry.at);
  pool.at = {entry.at};
  if (!valid_pool_name(entry.key)) {
    section.problem(entry.at,
                    "a pool's name has 1 to 23 of A-Z a-z 0-9 . _ - and begins with neither . nor -");
  }
  const std::optional<Backing> backing = section.word("backing", parse_backing);
  if (!section.has("backing")) section.problem(entry.at, "backing is missing");
  pool.backing = backing.value_or(Backing::memory);
  pool.capacity = read_pool_capacity(section);
  pool.confinement = section.word("confinement", parse_confinement_choice).value_or(std::nullopt);
  pool.seals = section.words("seals", parse_seal_kind);
  pool.cache = section.words("cache", parse_cache_mode);
  pool.wt_platform = section.flag("wt_platform").value_or(false);
  pool.populate = section.flag("populate").value_or(false);
  pool.huge = section.word("huge", parse_huge).value_or(false);
  pool.secret = section.flag("secret").value_or(false);
  const std::optional<std::uint64_t> numa = section.number("numa", 0, 1023);  // MAX_NUMNODES of any kernel
  if (numa) pool.numa = static_cast<std::uint32_t>(*numa);
  const std::optional<std::string> path = section.text("path");
  if (path) pool.path = normal_path(section, section.at("path"), *path).value_or("");
  pool.pin_deadline = section.duration("pin_deadline", 10ms, 1h).value_or(pool.pin_deadline);
  pool.end_holders_after = section.duration("end_holders_after", 0s, kLongestWait);
  pool.devices = read_paths(section, "devices");
  pool.region = section.text("region").value_or("");
  pool.resources = read_paths(section, "resources");
  section.finish();
  if (pool.seals.empty()) pool.seals = default_seals(pool);
  if (backing) {
    check_cache(section, pool);
    check_keys_of_backing(section, *backing);
    check_what_backing_needs(section, pool);
    check_confinement(section, pool);
    check_seals(section, pool);
  }
  return pool;
}

// ---- two pools together

bool is_or_contains(const std::string& outer, const std::string& inner) {
  if (outer.empty() || inner.empty()) return false;
  return inner == outer || outer == "/" || inner.starts_with(outer + "/");
}

/// resource2 and resource2_wc are one BAR.
std::string bar_of(std::string resource) {
  if (resource.ends_with("_wc")) resource.resize(resource.size() - 3);
  return resource;
}

/// /dev/dax0.1 is a piece of region 0, whether it is called region0 (ndctl) or 0 (daxctl).
bool piece_of_region(const std::string& device, const std::string& region) {
  const std::size_t digits = region.find_first_of("0123456789");
  return !region.empty() && digits != std::string::npos &&
         device.starts_with("/dev/dax" + region.substr(digits) + ".");
}

template <typename Same>
bool any_pair(const std::vector<std::string>& a, const std::vector<std::string>& b, Same same) {
  return std::any_of(a.begin(), a.end(), [&](const std::string& left) {
    return std::any_of(b.begin(), b.end(), [&](const std::string& right) { return same(left, right); });
  });
}

bool devices_overlap(const PoolSettings& a, const PoolSettings& b) {
  const auto piece = [](const PoolSettings& of, const PoolSettings& region) {
    return std::any_of(of.devices.begin(), of.devices.end(),
                       [&](const std::string& device) { return piece_of_region(device, region.region); });
  };
  return any_pair(a.devices, b.devices, std::equal_to<>()) || (!a.region.empty() && a.region == b.region) ||
         piece(a, b) || piece(b, a);
}

void check_bars_within(const PoolSettings& pool, Position at, Problems& problems) {
  for (std::size_t i = 0; i < pool.resources.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (bar_of(pool.resources[i]) == bar_of(pool.resources[j]) && pool.resources[i] != pool.resources[j]) {
        problems.add(at, "[pool." + pool.name + "]: " + pool.resources[j] + " and " + pool.resources[i] +
                             " are the same BAR");
      }
    }
  }
}

void check_shares_of_memory(const std::vector<PoolSettings>& pools, Position at, Problems& problems) {
  std::uint32_t percent = 0;
  for (const PoolSettings& pool : pools) {
    if (pool.backing != Backing::memory || !pool.capacity) continue;
    const auto* share = std::get_if<Percent>(&*pool.capacity);
    percent += share == nullptr ? 0 : share->value;
  }
  if (percent > 100) {
    problems.add(at,
                 "the memory pools together take " + std::to_string(percent) + "% of the machine's memory");
  }
}

}  // namespace

std::string shared_backing(const PoolSettings& a, const PoolSettings& b) {
  if (is_or_contains(a.path, b.path) || is_or_contains(b.path, a.path)) return "the directory " + b.path;
  if (devices_overlap(a, b)) return "a device";
  const auto same_bar = [](const std::string& x, const std::string& y) { return bar_of(x) == bar_of(y); };
  return any_pair(a.resources, b.resources, same_bar) ? "a BAR" : "";
}

std::optional<Capacity> read_capacity(Section& section, std::string_view key) {
  const Node* node = section.node(key);
  const auto* text = node == nullptr ? nullptr : std::get_if<std::string>(&node->value);
  if (text != nullptr && text->ends_with('%')) {
    std::uint32_t percent = 0;
    const char* end = text->data() + text->size() - 1;
    const auto [rest, fault] = std::from_chars(text->data(), end, percent);
    if (fault != std::errc() || rest != end || percent < 1 || percent > 100) {
      section.problem(node->at, std::string(key) + " \"" + *text + "\": a share is 1% to 100%");
      return std::nullopt;
    }
    return Percent{percent};
  }
  const std::optional<ByteCount> bytes = section.bytes(key);
  if (!bytes) return std::nullopt;
  return *bytes;
}

std::vector<PoolSettings> load_pools(const Table& table, Position at, const BrokerSettings& broker,
                                     Problems& problems) {
  std::vector<PoolSettings> pools;
  for (const Entry& entry : table) {
    const auto* settings = std::get_if<Table>(&entry.node.value);
    if (settings == nullptr) {
      problems.add(entry.at, "pool." + entry.key + " is " + std::string(kind_of(entry.node)) +
                                 ", it takes a table: [pool." + entry.key + "]");
      continue;
    }
    if (pools.size() == kMaxPools) {
      problems.add(entry.at, "more than " + std::to_string(kMaxPools) + " pools");
      break;
    }
    const PoolSettings pool = load_pool(entry, *settings, problems);
    check_bars_within(pool, entry.at, problems);
    for (const PoolSettings& other : pools) {
      const std::string what = shared_backing(other, pool);
      if (!what.empty()) {
        problems.add(entry.at, "[pool." + pool.name + "] overlaps [pool." + other.name + "] (" + other.where +
                                   "): both have " + what);
      }
    }
    if (is_or_contains(pool.path, broker.state)) {
      problems.add(entry.at, "[pool." + pool.name + "]: path " + pool.path +
                                 " holds the broker's own state directory " + broker.state);
    }
    pools.push_back(pool);
  }
  check_shares_of_memory(pools, at, problems);
  return pools;
}

}  // namespace mapcap::policy
