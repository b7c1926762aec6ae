#include "broker/regions/fd_store.h"

#include <systemd/sd-bus.h>
#include <systemd/sd-login.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <memory>

namespace mapcap::broker {

namespace {

/// MAX_ARG_STRLEN (32 pages) less "LISTEN_FDNAMES=" and the NUL.
constexpr std::uint64_t kMostNameBytes = 32 * 4096 - 16;
constexpr std::string_view kEarlier = "mapcap-";
constexpr char kPrefix = 'r';

/// What systemd takes in a name (printable ASCII but ':') less what has a meaning in shells and environments.
constexpr std::string_view kDigits =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+,-./;<=>?@[]^_~";
constexpr std::uint64_t kBase = 85;
static_assert(kDigits.size() >= kBase);

template <typename Number>
std::optional<Number> parse_decimal(std::string_view text) {
  Number value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Free {
  void operator()(char* text) const { std::free(text); }
};
using Text = std::unique_ptr<char, Free>;

/// systemd itself, without the bus's daemon: as systemctl asks.
std::optional<std::uint64_t> ask_systemd() {
  constexpr std::uint64_t kPatienceUs = 2'000'000;
  char* raw = nullptr;
  if (::sd_pid_get_unit(0, &raw) < 0) return std::nullopt;
  const Text unit(raw);
  raw = nullptr;
  if (::sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit.get(), &raw) < 0) return std::nullopt;
  const Text path(raw);
  sd_bus* made = nullptr;
  if (::sd_bus_new(&made) < 0) return std::nullopt;
  const std::unique_ptr<sd_bus, sd_bus* (*)(sd_bus*)> bus(made, &::sd_bus_close_unref);
  ::sd_bus_set_method_call_timeout(bus.get(), kPatienceUs);
  if (::sd_bus_set_address(bus.get(), "unix:path=/run/systemd/private") < 0) return std::nullopt;
  if (::sd_bus_start(bus.get()) < 0) return std::nullopt;
  std::uint32_t most = 0;
  if (::sd_bus_get_property_trivial(bus.get(), "org.freedesktop.systemd1", path.get(),
                                    "org.freedesktop.systemd1.Service", "FileDescriptorStoreMax", nullptr,
                                    'u', &most) < 0) {
    return std::nullopt;
  }
  return most;
}

}  // namespace

std::optional<std::uint64_t> FdStore::most_of_this_service() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it.
  if (const char* said = std::getenv("FDSTORE"); said != nullptr) return parse_decimal<std::uint64_t>(said);
  return ask_systemd();
}

std::string FdStore::name_of(RegionId region) {
  std::string digits;
  for (std::uint64_t rest = region.value; rest != 0; rest /= kBase) digits += kDigits[rest % kBase];
  return kPrefix + std::string(digits.rbegin(), digits.rend());
}

std::optional<RegionId> FdStore::region_of(std::string_view name) {
  if (name.starts_with(kEarlier)) {
    const auto value = parse_decimal<std::uint64_t>(name.substr(kEarlier.size()));
    if (value && *value != 0) return RegionId{*value};
  }
  if (name.size() < 2 || name.size() > 11 || name.front() != kPrefix) return std::nullopt;
  RegionId region;
  for (const char digit : name.substr(1)) {
    const std::size_t value = kDigits.find(digit);
    if (value >= kBase) return std::nullopt;
    region.value = region.value * kBase + value;
  }
  if (name_of(region) != name) return std::nullopt;  // Too large, or a zero in front.
  return region;
}

void FdStore::found(RegionId region, std::string name) {
  name_bytes_ += name.size() + 1;
  names_.insert_or_assign(region.value, std::move(name));
}

std::optional<std::string> FdStore::take(RegionId region) {
  if (names_.contains(region.value)) return std::nullopt;
  std::string name = name_of(region);
  const bool fits = (!most_ || names_.size() < *most_) && name_bytes_ + name.size() + 1 <= kMostNameBytes;
  if (!fits) {
    homeless_.insert(region.value);
    if (!full_) report_->store_full(names_.size(), most_);
    full_ = true;
    return std::nullopt;
  }
  homeless_.erase(region.value);
  found(region, name);
  return name;
}

std::optional<std::string> FdStore::drop(RegionId region) {
  homeless_.erase(region.value);
  sockets_.erase(region.value);
  const auto known = names_.find(region.value);
  if (known == names_.end()) return std::nullopt;
  std::string name = std::move(known->second);
  names_.erase(known);
  name_bytes_ -= name.size() + 1;
  full_ = false;
  return name;
}

std::uint64_t FdStore::sockets() const {
  return static_cast<std::uint64_t>(
      std::ranges::count_if(sockets_, [&](std::uint64_t number) { return names_.contains(number); }));
}

std::uint64_t FdStore::without_place() const {
  return homeless_.size() - static_cast<std::uint64_t>(std::ranges::count_if(
                                sockets_, [&](std::uint64_t number) { return homeless_.contains(number); }));
}

}  // namespace mapcap::broker
