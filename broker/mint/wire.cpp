#include "broker/mint/wire.h"

#include <algorithm>
#include <cstring>

namespace mapcap::broker::mint::wire {
namespace {

Failure malformed(const char* what) {
  return failure(ErrorCode::malformed,
                 std::string("a message between broker and mint makes no sense: ") + what);
}

/// What a request of this kind says beside its kind.
struct Fields {
  bool number = false;
  bool second = false;
  bool text = false;
};

Fields fields_of(Kind kind) {
  switch (kind) {
    case Kind::bury_backing:
    case Kind::account_of:
    case Kind::group_of:
    case Kind::user_namespace:
      return {true, false, false};
    case Kind::start_keeper:
      return {true, true, true};
    case Kind::groups_of:
      return {true, false, true};
    case Kind::account_named:
    case Kind::group_named:
    case Kind::endpoint_mount:
    case Kind::pool_directory:
      return {false, false, true};
    case Kind::lane:
    case Kind::heir:
    case Kind::open_backing:
    case Kind::open_backings:
    case Kind::close_backings:
    case Kind::policy_text:
    case Kind::subuid_text:
    case Kind::cache_mode:
    case Kind::huge_tmpfs:
    case Kind::lsm_start:
    case Kind::lsm_mark:
      return {};
  }
  return {};
}

}  // namespace

std::size_t descriptors_of(Kind kind) {
  switch (kind) {
    case Kind::open_backing:
      return 2;
    case Kind::open_backings:
      return 1 + kOpenedTogether;
    case Kind::lane:
    case Kind::close_backings:
    case Kind::bury_backing:
    case Kind::cache_mode:
    case Kind::lsm_mark:
      return 1;
    default:
      return 0;
  }
}

void put_ids(Ids& into, std::span<const std::int32_t> ids) {
  into.fill('\0');
  if (ids.empty()) return;  // memcpy takes no null pointer, however little it copies.
  std::memcpy(into.data(), ids.data(), std::min(ids.size_bytes(), into.size()));
}

std::vector<std::int32_t> ids_in(const Ids& from) {
  std::array<std::int32_t, kMostIds> ids{};
  std::memcpy(ids.data(), from.data(), from.size());
  const auto end = std::find_if(ids.begin(), ids.end(), [](std::int32_t id) { return id <= 0; });
  const bool well = std::all_of(end, ids.end(), [](std::int32_t id) { return id == 0; });
  return well ? std::vector<std::int32_t>(ids.begin(), end) : std::vector<std::int32_t>();
}

void put_pairs(Numbers& into, std::span<const std::int32_t, kOpenedTogether> ids) {
  static_assert(sizeof(Numbers) == kOpenedTogether * sizeof(std::int32_t));
  std::memcpy(into.data(), ids.data(), ids.size_bytes());
}

std::vector<std::int32_t> pairs_in(const Numbers& from) {
  std::vector<std::int32_t> ids(kOpenedTogether);
  std::memcpy(ids.data(), from.data(), sizeof from);
  const bool well = std::all_of(ids.begin(), ids.end(), [](std::int32_t id) { return id > 0; });
  return well ? ids : std::vector<std::int32_t>();
}

Result<Request> decode_request(std::span<const std::byte> bytes, std::size_t fds) {
  Request request;
  if (bytes.size() != sizeof request) return malformed("its size");
  std::memcpy(&request, bytes.data(), sizeof request);
  if (request.magic != Request::kMagic) return malformed("its first bytes");
  if (request.kind < kFirst || request.kind > kLast) return malformed("its kind");
  if (request.descriptors != fds || fds != descriptors_of(request.kind)) return malformed("its descriptors");
  const Fields fields = fields_of(request.kind);
  if (request.kind == Kind::close_backings) {
    if (ids_in(request.text).empty()) return malformed("its ids");
  } else {
    const std::optional<std::string_view> text = text_in(request.text);
    if (!text || text->empty() == fields.text) return malformed("its text");
  }
  if ((request.number != 0 && !fields.number) || (request.second != 0 && !fields.second))
    return malformed("its numbers");
  return request;
}

Result<Answer> decode_answer(std::span<const std::byte> bytes, std::size_t fds) {
  Answer answer;
  if (bytes.size() != sizeof answer) return malformed("its size");
  std::memcpy(&answer, bytes.data(), sizeof answer);
  if (answer.magic != Answer::kMagic) return malformed("its first bytes");
  const std::optional<std::string_view> text = text_in(answer.text);
  if (!text) return malformed("its text");
  if (answer.descriptors != fds || fds > kMostDescriptors) return malformed("its descriptors");
  if (answer.code == 0) return answer;
  if (fds != 0) return malformed("a refusal that brings something");
  const auto code = static_cast<ErrorCode>(answer.code);
  if (code > ErrorCode::unavailable) return malformed("its code");
  return failure(code, std::string(*text));
}

Answer refusal(const Failure& why) {
  Answer answer;
  answer.code = static_cast<std::uint16_t>(why.code);
  put_text(answer.text, why.sentence, Long::cut);
  return answer;
}

}  // namespace mapcap::broker::mint::wire
