// What the mint takes from the broker, and the broker from the mint: one good message of each kind, and all that is wrong
// with the others.
#include "broker/mint/wire.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace mapcap::broker::mint {
namespace {

using wire::Answer;
using wire::Kind;
using wire::Request;

constexpr Kind kNumbered[] = {Kind::bury_backing, Kind::start_keeper, Kind::user_namespace,
                              Kind::account_of,   Kind::group_of,     Kind::groups_of};
/// Letters are ids as well.
constexpr Kind kWithIds[] = {Kind::close_backings};
constexpr Kind kNamed[] = {Kind::start_keeper, Kind::account_named,  Kind::group_named,
                           Kind::groups_of,    Kind::endpoint_mount, Kind::pool_directory};

template <typename Kinds>
bool has(const Kinds& kinds, Kind kind) {
  return std::find(std::begin(kinds), std::end(kinds), kind) != std::end(kinds);
}

Request good(Kind kind) {
  Request request;
  request.kind = kind;
  request.descriptors = static_cast<std::uint16_t>(wire::descriptors_of(kind));
  if (has(kNumbered, kind)) request.number = 7;
  const bool put = !(has(kNamed, kind) || has(kWithIds, kind)) || wire::put_text(request.text, "name");
  EXPECT_TRUE(put);
  return request;
}

bool taken(const Request& request, std::size_t fds) {
  return wire::decode_request(wire::bytes_of(request), fds).has_value();
}

template <typename Test>
void for_each_kind(Test test) {
  for (auto number = static_cast<unsigned>(wire::kFirst); number <= static_cast<unsigned>(wire::kLast);
       ++number) {
    SCOPED_TRACE(number);
    test(static_cast<Kind>(number));
  }
}

TEST(MintWire, TakesOneOfEachKind) {
  for_each_kind([](Kind kind) { EXPECT_TRUE(taken(good(kind), wire::descriptors_of(kind))); });
}

TEST(MintWire, TakesNoOtherSize) {
  for_each_kind([](Kind kind) {
    const Request request = good(kind);
    std::vector<std::byte> bytes(sizeof request + 1);
    std::memcpy(bytes.data(), &request, sizeof request);
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
      const auto decoded = wire::decode_request(std::span(bytes).first(size), wire::descriptors_of(kind));
      EXPECT_EQ(decoded.has_value(), size == sizeof request) << size;
    }
  });
}

TEST(MintWire, TakesNoOtherDescriptors) {
  for_each_kind([](Kind kind) {
    const std::size_t right = wire::descriptors_of(kind);
    for (std::size_t came = 0; came <= wire::kMostDescriptors; ++came) {
      Request request = good(kind);
      EXPECT_EQ(taken(request, came), came == right) << came;
      request.descriptors = static_cast<std::uint16_t>(came);
      EXPECT_EQ(taken(request, came), came == right) << came << " as it says";
      EXPECT_EQ(taken(request, right), came == right) << "it says " << came;
    }
  });
}

TEST(MintWire, TakesNothingInFieldsThatAKindHasNot) {
  for_each_kind([](Kind kind) {
    Request request = good(kind);
    request.number = 1;
    EXPECT_EQ(taken(request, request.descriptors), has(kNumbered, kind)) << "number";
    request = good(kind);
    request.second = 1;
    EXPECT_EQ(taken(request, request.descriptors), kind == Kind::start_keeper) << "second";
    request = good(kind);
    request.text = {};
    request.text[0] = 'x';
    const bool wants_text = has(kNamed, kind) || has(kWithIds, kind);
    EXPECT_EQ(taken(request, request.descriptors), wants_text) << "text";
    request.text = {};
    EXPECT_EQ(taken(request, request.descriptors), !wants_text) << "no text";
  });
}

TEST(MintWire, TakesNoUnknownKindAndNoOtherBeginning) {
  for (unsigned number = 0; number <= 0xffff; ++number) {
    const auto kind = static_cast<Kind>(number);
    if (kind >= wire::kFirst && kind <= wire::kLast) continue;
    Request request;
    request.kind = kind;
    ASSERT_FALSE(taken(request, 0)) << number;
  }
  Request request = good(Kind::heir);
  for (unsigned bit = 0; bit < 32; ++bit) {
    request.magic = Request::kMagic ^ 1U << bit;
    EXPECT_FALSE(taken(request, 0)) << bit;
  }
}

TEST(MintWire, TakesNoTextWithoutEndNorWithMoreBehindIt) {
  for_each_kind([](Kind kind) {
    if (!has(kNamed, kind)) return;
    Request request = good(kind);
    request.text.fill('x');
    EXPECT_FALSE(taken(request, request.descriptors)) << "no end";
    request.text.back() = '\0';
    EXPECT_TRUE(taken(request, request.descriptors)) << "as long as there is room";
    request = good(kind);
    request.text.back() = 'x';
    EXPECT_FALSE(taken(request, request.descriptors)) << "behind its end";
  });
}

TEST(MintWire, IdsArriveInTheirOrderAndNothingIsTakenForOne) {
  Request request = good(Kind::close_backings);
  std::vector<std::int32_t> ids;
  for (std::size_t count = 1; count <= wire::kMostIds; ++count) {
    ids.push_back(static_cast<std::int32_t>(count * 1000));
    wire::put_ids(request.text, ids);
    EXPECT_TRUE(taken(request, 1));
    EXPECT_EQ(wire::ids_in(request.text), ids);
  }
  for (const std::vector<std::int32_t>& bad :
       {std::vector<std::int32_t>{}, {-1}, {0, 1}, {1, 0, 2}, {1, -2}, {1, 2, 0, 0, -1}}) {
    wire::put_ids(request.text, bad);
    EXPECT_FALSE(taken(request, 1));
    EXPECT_TRUE(wire::ids_in(request.text).empty());
  }
}

TEST(MintWire, IdsOfFilesThatWereOpenedTogetherArriveInTheirOrder) {
  Answer answer;
  EXPECT_TRUE(wire::pairs_in(answer.numbers).empty()) << "0 is none";
  std::array<std::int32_t, wire::kOpenedTogether> ids{1, 2, 3, 0x7fffffff, 5, 6, 7, 8};
  wire::put_pairs(answer.numbers, ids);
  EXPECT_EQ(wire::pairs_in(answer.numbers), std::vector<std::int32_t>(ids.begin(), ids.end()));
  ids[7] = -8;
  wire::put_pairs(answer.numbers, ids);
  EXPECT_TRUE(wire::pairs_in(answer.numbers).empty());
}

TEST(MintWire, NoRandomBytesAreTaken) {
  std::mt19937 random(11);
  for (int i = 0; i < 20'000; ++i) {
    Request request;
    std::vector<unsigned char> noise(sizeof request - sizeof request.magic);
    for (unsigned char& byte : noise) byte = static_cast<unsigned char>(random());
    std::memcpy(reinterpret_cast<char*>(&request) + sizeof request.magic, noise.data(), noise.size());
    ASSERT_FALSE(taken(request, random() % 4));
  }
}

TEST(MintWire, ANameThatDoesNotFitIsNotSent) {
  Request request;
  EXPECT_FALSE(wire::put_text(request.text, std::string(request.text.size(), 'x')));
  EXPECT_FALSE(wire::put_text(request.text, std::string("a\0b", 3)));
  EXPECT_EQ(wire::text_in(request.text), "");
  EXPECT_TRUE(wire::put_text(request.text, std::string(request.text.size() - 1, 'x')));
}

TEST(MintWire, ARefusalArrivesAsItWasSaid) {
  const Answer answer = wire::refusal(failure(ErrorCode::unavailable, "no"));
  const auto decoded = wire::decode_answer(wire::bytes_of(answer), 0);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::unavailable);
  EXPECT_EQ(decoded.error().sentence, "no");
  const Answer longest = wire::refusal(failure(ErrorCode::io, std::string(5000, 'x')));
  EXPECT_EQ(wire::decode_answer(wire::bytes_of(longest), 0).error().sentence.size(), longest.text.size() - 1);
}

TEST(MintWire, AnAnswerThatMakesNoSenseIsNone) {
  const auto error_of = [](const Answer& answer, std::size_t fds) {
    const auto decoded = wire::decode_answer(wire::bytes_of(answer), fds);
    return decoded ? ErrorCode{} : decoded.error().code;
  };
  EXPECT_EQ(error_of({}, 0), ErrorCode{});
  EXPECT_EQ(error_of({}, 1), ErrorCode::malformed);
  Answer answer;
  answer.descriptors = 1;
  EXPECT_EQ(error_of(answer, 0), ErrorCode::malformed);
  EXPECT_EQ(error_of(answer, 1), ErrorCode{});
  answer.descriptors = wire::kMostDescriptors + 1;
  EXPECT_EQ(error_of(answer, wire::kMostDescriptors + 1), ErrorCode::malformed);
  answer = wire::refusal(failure(ErrorCode::io, "no"));
  answer.descriptors = 1;
  EXPECT_EQ(error_of(answer, 1), ErrorCode::malformed) << "a refusal brings nothing";
  answer = {};
  for (const unsigned code : {17U, 999U, 1000U, 0xffffU}) {
    answer.code = static_cast<std::uint16_t>(code);
    EXPECT_EQ(error_of(answer, 0), ErrorCode::malformed) << code;
  }
  answer = {};
  answer.text.fill('x');
  EXPECT_EQ(error_of(answer, 0), ErrorCode::malformed) << "no end";
  answer = {};
  answer.text.back() = 'x';
  EXPECT_EQ(error_of(answer, 0), ErrorCode::malformed) << "something behind its end";
  answer = {};
  answer.magic = Request::kMagic;
  EXPECT_EQ(error_of(answer, 0), ErrorCode::malformed);
  const std::vector<std::byte> bytes(sizeof answer - 1);
  EXPECT_FALSE(wire::decode_answer(bytes, 0));
}

}  // namespace
}  // namespace mapcap::broker::mint
