// What broker and mint say to each other: messages of one size, over socket pairs that nobody else has.
//
// The mint has all the power that there is, and the broker reads strangers' bytes. So the mint takes what the broker says
// for a stranger's words: a message has its one size, nothing in it is a length or an offset, every field that its kind
// does not use is zero, and no path ever comes in one. What must be named (the policy, the socket's directory) the mint
// was told before the broker served anybody.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace mapcap::broker::mint::wire {

/// Append only: broker and mint are always of one program, but a number that is used twice is hard to read in a trace.
enum class Kind : std::uint16_t {
  // On the mint's own socket, which each has one of:
  lane = 1,  ///< With a descriptor: one more socket on which requests come. No answer.
  heir,      ///< Fork the next mint. Answer: its socket, its pidfd; numbers: its pid.
  // On a lane, one after the other. At once:
  open_backing,    ///< With the FUSE device and a file. Answer: the backing id.
  close_backings,  ///< With the FUSE device. In the place of a text: ids (put_ids), at least one.
  // In a process of its own, which may take its time:
  bury_backing,  ///< With the FUSE device. number: the backing id of a file whose filesystem may let it wait.
  start_keeper,  ///< number: seconds that it stays idle, plus one; 0: no longer than its broker. text: its socket's name.
                 ///< second: seconds of FUSE's own deadline.
  account_named,   ///< text: a user's name. Answer: uid, gid, and text: the name.
  account_of,      ///< number: a uid. The same.
  group_named,     ///< text: a group's name. Answer: gid, and text: the name.
  group_of,        ///< number: a gid. The same.
  groups_of,       ///< text: a user's name; number: his gid. Answer: a file of gids.
  policy_text,     ///< Answer: a file with the policy file's text.
  subuid_text,     ///< The same of /etc/subuid.
  endpoint_mount,  ///< text: the place of an endpoint. Answer: a mount of its directory.
  cache_mode,      ///< With a file. Answer: the cache mode that mappings of it have.
  huge_tmpfs,      ///< Answer: a mount.
  pool_directory,  ///< text: a dax-file pool's name. Answer: a mount of its path, which the policy says.
  // At once:
  user_namespace,  ///< number: a process. Answer: the inode of its user namespace, 0 where that cannot be seen.
  // In a process of its own:
  lsm_start,  ///< Attach the LSM programs unless they are, try them, and exempt the broker.
  // At once:
  lsm_mark,       ///< With a file. The LSM programs confine it from then on.
  open_backings,  ///< With the FUSE device and kOpenedTogether files. Answer: their ids (put_pairs).
};
inline constexpr Kind kFirst = Kind::lane;
inline constexpr Kind kLast = Kind::open_backings;

struct Request {
  static constexpr std::uint32_t kMagic = 0x6d696e31;
  std::uint32_t magic = kMagic;
  Kind kind = Kind::lane;
  std::uint16_t descriptors = 0;
  std::uint64_t number = 0;
  std::uint64_t second = 0;
  std::array<char, 256> text{};  ///< Ends with a zero byte, and all behind it is zero. Or ids.
};
static_assert(sizeof(Request) == 280 && std::has_unique_object_representations_v<Request>);

struct Answer {
  static constexpr std::uint32_t kMagic = 0x6d696e32;
  std::uint32_t magic = kMagic;
  std::uint16_t code = 0;  ///< 0: done; else an ErrorCode of the protocol.
  std::uint16_t descriptors = 0;
  std::array<std::uint64_t, 4> numbers{};
  std::array<char, 472> text{};  ///< As in a request. Of a failure: its sentence.
};
static_assert(sizeof(Answer) == 512 && std::has_unique_object_representations_v<Answer>);

/// How many descriptors come with an answer to start_keeper: socket and process, and, where clones can be issued, page,
/// device and mount.
inline constexpr std::size_t kKeeperWithoutClones = 2;
inline constexpr std::size_t kKeeperWithClones = 5;
/// Files of one open_backings: two ids fit into each number of the answer.
inline constexpr std::size_t kOpenedTogether = 8;
inline constexpr std::size_t kMostDescriptors = kOpenedTogether + 1;

/// How many descriptors a request of this kind has.
std::size_t descriptors_of(Kind kind);

/// The text of a message, without its zeros. Nothing when it has no end, or something behind it.
template <std::size_t Size>
std::optional<std::string_view> text_in(const std::array<char, Size>& text) {
  std::size_t length = 0;
  while (length < Size && text[length] != '\0') ++length;
  if (length == Size) return std::nullopt;
  for (std::size_t i = length; i < Size; ++i) {
    if (text[i] != '\0') return std::nullopt;
  }
  return std::string_view(text.data(), length);
}

/// False when it does not fit, or has a zero byte in it; then nothing is written. `long_ones`: cut, for sentences.
enum class Long : bool { refuse, cut };
template <std::size_t Size>
bool put_text(std::array<char, Size>& into, std::string_view text, Long long_ones = Long::refuse) {
  if (text.size() >= Size) {
    if (long_ones == Long::refuse) return false;
    text = text.substr(0, Size - 1);
  }
  if (text.find('\0') != std::string_view::npos) return false;
  text.copy(into.data(), text.size());
  return true;
}

/// Positive numbers in the place of a request's text: one after the other, with zeros behind.
using Ids = decltype(Request::text);
inline constexpr std::size_t kMostIds = sizeof(Ids) / sizeof(std::int32_t);
/// `ids`: kMostIds at most.
void put_ids(Ids& into, std::span<const std::int32_t> ids);
/// Empty when there is none, one is negative, or something is behind the first zero.
std::vector<std::int32_t> ids_in(const Ids& from);

/// kOpenedTogether ids in the numbers of an answer, two in each.
using Numbers = decltype(Answer::numbers);
void put_pairs(Numbers& into, std::span<const std::int32_t, kOpenedTogether> ids);
/// Empty when one is none.
std::vector<std::int32_t> pairs_in(const Numbers& from);

/// A request that makes sense, with `fds` descriptors beside it. Errors: `malformed`.
Result<Request> decode_request(std::span<const std::byte> bytes, std::size_t fds);

/// The same of an answer. Errors: `malformed`, and what the mint answered.
Result<Answer> decode_answer(std::span<const std::byte> bytes, std::size_t fds);

/// A refusal to be sent. A sentence that does not fit is cut.
Answer refusal(const Failure& why);

template <typename Message>
std::span<const std::byte> bytes_of(const Message& message) {
  return std::as_bytes(std::span(&message, 1));
}

}  // namespace mapcap::broker::mint::wire
