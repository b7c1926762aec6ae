#include "broker/ledger/table/endpoint_layout.h"

#include <array>
#include <charconv>

#include "broker/ledger/table/fields.h"
#include "schema/endpoint_id.h"

namespace mapcap::broker::ledger {

namespace {

// Offsets within the slot.
namespace head {
constexpr std::size_t kLimits = 24;  // bytes, regions, grants, connections: 8 bytes each.
constexpr std::size_t kTtl = 56;
constexpr std::size_t kCreated = 64;
constexpr std::size_t kExpiresBoot = 72;
constexpr std::size_t kExpiresUnix = 80;
constexpr std::size_t kBoot = 88;
constexpr std::size_t kMaker = 104;
constexpr std::size_t kMakerGroup = 108;
constexpr std::size_t kPrincipal = 112;
constexpr std::size_t kTextBytes = 116;  // 2 bytes.
constexpr std::size_t kPresent = 118;    // Bit n: limit n is set.
constexpr std::size_t kState = 119;
constexpr std::size_t kFlags = 120;  // Bit 0: keep; bit 1: the maker was an administrator; bit 2: read-only.
constexpr std::size_t kIdLength = 121;
constexpr std::size_t kId = 122;
constexpr std::size_t kEnd = kId + schema::kMaxEndpointId;
}  // namespace head

namespace text {
constexpr std::size_t kEndpoint = 24;
constexpr std::size_t kIndex = 32;
constexpr std::size_t kLength = 33;
constexpr std::size_t kText = 40;
static_assert(kSlotSize - kText == kEndpointTextBytes);
}  // namespace text

constexpr unsigned kKeep = 1;
constexpr unsigned kAdministrator = 2;
constexpr unsigned kReadOnly = 4;
constexpr unsigned kRevokeOpened = 8;

std::array<std::optional<std::uint64_t>*, 4> each(Limits& limits) {
  return {&limits.bytes, &limits.regions, &limits.grants, &limits.connections};
}

}  // namespace

Result<std::string> text_of(const EndpointRecord& record) {
  std::string text;
  bool broken = false;
  const auto add = [&](char kind, const std::string& value) {
    broken = broken || value.find('\n') != std::string::npos;
    text += std::string(1, kind) + " " + value + "\n";
  };
  for (const std::string& name : record.names) add('n', name);
  for (const std::string& pool : record.pools) add('p', pool);
  for (const std::string& verb : record.verbs) add('v', verb);
  for (const Label& label : record.labels) add('l', label.key + "=" + label.value);
  for (const std::uint32_t group : record.groups) add('g', std::to_string(group));
  if (broken) return unfit("names, pools, verbs or labels have a line break");
  if (text.size() <= kMaxEndpointText) return text;
  return failure(ErrorCode::invalid,
                 "what endpoint " + record.id + " is to have takes " + std::to_string(text.size()) +
                     " bytes of names, pools, verbs, labels and groups of its maker, and the ledger has " +
                     std::to_string(kMaxEndpointText) + " for them: name less",
                 {{"asked", std::to_string(text.size())}, {"limit", std::to_string(kMaxEndpointText)}});
}

Result<void> read_text(std::string_view text, EndpointRecord& record) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos || end < 2 || text[1] != ' ') return unfit("text is no lines");
    const std::string value(text.substr(2, end - 2));
    const std::size_t equals = value.find('=');
    std::uint32_t number = 0;
    const auto [stop, failed] = std::from_chars(value.data(), value.data() + value.size(), number);
    switch (text[0]) {
      case 'n':
        record.names.push_back(value);
        break;
      case 'p':
        record.pools.push_back(value);
        break;
      case 'v':
        record.verbs.push_back(value);
        break;
      case 'l':
        if (equals == std::string::npos) return unfit("label has no value");
        record.labels.push_back({value.substr(0, equals), value.substr(equals + 1)});
        break;
      case 'g':
        if (failed != std::errc{} || stop != value.data() + value.size()) return unfit("group is no number");
        record.groups.push_back(number);
        break;
      default:
        return unfit("text has a line of an unknown kind");
    }
    text.remove_prefix(end + 1);
  }
  return ok();
}

Result<void> encode(const EndpointRecord& record, std::size_t text_bytes, SlotImage& image) {
  MAPCAP_TRY_VOID(schema::check_endpoint_id(record.id));
  if (text_bytes > kMaxEndpointText) return unfit("text is too long");
  image.fill(std::byte{0});
  Limits limits = record.limits;
  unsigned present = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const std::optional<std::uint64_t>& limit = *each(limits).at(i);
    if (!limit) continue;
    present |= 1U << i;
    save64(image, head::kLimits + 8 * i, *limit);
  }
  save64(image, head::kTtl, record.ttl_ns);
  save64(image, head::kCreated, static_cast<std::uint64_t>(record.created_unix_ns));
  save64(image, head::kExpiresBoot, static_cast<std::uint64_t>(record.expires_boot_ns));
  save64(image, head::kExpiresUnix, static_cast<std::uint64_t>(record.expires_unix_ns));
  std::memcpy(image.data() + head::kBoot, record.boot.data(), record.boot.size());
  save32(image, head::kMaker, record.maker);
  save32(image, head::kMakerGroup, record.maker_group);
  save32(image, head::kPrincipal, record.principal);
  save16(image, head::kTextBytes, static_cast<std::uint16_t>(text_bytes));
  save8(image, head::kPresent, present);
  save8(image, head::kState, static_cast<unsigned>(record.state));
  save8(image, head::kFlags,
        (record.on_end == OnEnd::keep ? kKeep : 0U) | (record.maker_administrator ? kAdministrator : 0U) |
            (record.rights == Access::read_only ? kReadOnly : 0U) |
            (record.revoke_opened ? kRevokeOpened : 0U));
  save_text(image, head::kIdLength, head::kId, record.id);
  return ok();
}

void encode_text(std::uint64_t endpoint, std::size_t index, std::string_view all, SlotImage& image) {
  image.fill(std::byte{0});
  const std::string part(all.substr(index * kEndpointTextBytes, kEndpointTextBytes));
  save64(image, text::kEndpoint, endpoint);
  save8(image, text::kIndex, static_cast<unsigned>(index));
  save_text(image, text::kLength, text::kText, part);
}

Result<EndpointHead> decode_endpoint_head(SlotBytes bytes) {
  EndpointHead found;
  EndpointRecord& record = found.record;
  const unsigned present = load8(bytes, head::kPresent);
  const unsigned state = load8(bytes, head::kState);
  const unsigned flags = load8(bytes, head::kFlags);
  const std::size_t id_length = load8(bytes, head::kIdLength);
  found.text_bytes = load16(bytes, head::kTextBytes);
  if (present > 0xFU) return unfit("limits are unknown");
  if (!within(state, EndpointState::ended)) return unfit("state is unknown");
  if (flags > (kKeep | kAdministrator | kReadOnly | kRevokeOpened)) return unfit("flags are unknown");
  if (id_length > schema::kMaxEndpointId) return unfit("id is longer than 64 bytes");
  if (found.text_bytes > kMaxEndpointText) return unfit("text is too long");
  if (!all_zero(bytes, head::kId + id_length, head::kEnd) || !all_zero(bytes, head::kEnd, kSlotSize))
    return unfit("padding is not zero");
  record.number = load64(bytes, 8);
  record.id = load_text(bytes, head::kId, id_length);
  MAPCAP_TRY_VOID(schema::check_endpoint_id(record.id));
  for (std::size_t i = 0; i < 4; ++i) {
    const std::uint64_t value = load64(bytes, head::kLimits + 8 * i);
    if ((present >> i & 1U) != 0) {
      *each(record.limits).at(i) = value;
    } else if (value != 0) {
      return unfit("absent limit has a value");
    }
  }
  record.ttl_ns = load64(bytes, head::kTtl);
  record.created_unix_ns = static_cast<std::int64_t>(load64(bytes, head::kCreated));
  record.expires_boot_ns = static_cast<std::int64_t>(load64(bytes, head::kExpiresBoot));
  record.expires_unix_ns = static_cast<std::int64_t>(load64(bytes, head::kExpiresUnix));
  std::memcpy(record.boot.data(), bytes.data() + head::kBoot, record.boot.size());
  record.maker = load32(bytes, head::kMaker);
  record.maker_group = load32(bytes, head::kMakerGroup);
  record.principal = load32(bytes, head::kPrincipal);
  record.state = static_cast<EndpointState>(state);
  record.on_end = (flags & kKeep) != 0 ? OnEnd::keep : OnEnd::revoke;
  record.maker_administrator = (flags & kAdministrator) != 0;
  record.rights = (flags & kReadOnly) != 0 ? Access::read_only : Access::read_write;
  record.revoke_opened = (flags & kRevokeOpened) != 0;
  return found;
}

Result<EndpointText> decode_endpoint_text(SlotBytes bytes) {
  EndpointText part;
  part.endpoint = load64(bytes, text::kEndpoint);
  part.index = static_cast<std::uint8_t>(load8(bytes, text::kIndex));
  const std::size_t length = load8(bytes, text::kLength);
  if (part.endpoint == 0) return unfit("text is of no endpoint");
  if (part.index >= kMaxEndpointTexts) return unfit("text has too many parts");
  if (length == 0 || length > kEndpointTextBytes) return unfit("text is not 1 to 216 bytes long");
  if (!all_zero(bytes, text::kLength + 1, text::kText) || !all_zero(bytes, text::kText + length, kSlotSize))
    return unfit("padding is not zero");
  part.text = load_text(bytes, text::kText, length);
  return part;
}

}  // namespace mapcap::broker::ledger
