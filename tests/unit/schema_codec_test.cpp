// The codec: every message survives the trip, and nothing malformed gets in.
#include "schema/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "schema/region_name.h"
#include "tests/unit/schema_examples.h"

namespace mapcap::schema {
namespace {

using namespace examples;
using std::chrono::nanoseconds;
using testing::HasSubstr;

std::string why(const Result<Request>& result) {
  return result ? "accepted" : result.error().sentence;
}

TEST(Codec, EveryRequestSurvivesTheTrip) {
  for (const Request& request : all_requests()) {
    const Result<Request> back = decode_request(encode(request));
    ASSERT_TRUE(back) << request.id << ": " << back.error().sentence;
    EXPECT_EQ(back.value(), request) << request.id;
  }
}

TEST(Codec, EveryAnswerSurvivesTheTrip) {
  for (const FromBroker& answer : all_answers()) {
    const Result<FromBroker> back = decode_from_broker(encode(answer));
    ASSERT_TRUE(back) << back.error().sentence;
    EXPECT_EQ(back.value(), answer);
  }
}

TEST(Codec, EveryErrorCodeSurvivesTheTrip) {
  for (int code = 1; code <= static_cast<int>(ErrorCode::unavailable); ++code) {
    const FromBroker answer = Reply{1, failure(static_cast<ErrorCode>(code), "x")};
    const Result<FromBroker> back = decode_from_broker(encode(answer));
    ASSERT_TRUE(back);
    EXPECT_EQ(back.value(), answer);
    EXPECT_NE(name_of(static_cast<ErrorCode>(code)), "unknown");
  }
}

// Promise 12
TEST(Codec, EveryTruncationIsMalformed) {
  for (const Request& request : all_requests()) {
    const Packet packet = encode(request);
    for (std::size_t size = 0; size < packet.size(); ++size) {
      const Result<Request> result = decode_request(std::span(packet).first(size));
      ASSERT_FALSE(result) << request.id << " cut to " << size;
      EXPECT_EQ(result.error().code, ErrorCode::malformed);
      EXPECT_THAT(result.error().sentence, HasSubstr("malformed message: "));
    }
  }
}

// Promise 12
TEST(Codec, TrailingWordsAreMalformed) {
  Packet packet = encode(Request{1, Pools{}});
  packet.resize(packet.size() + 8);
  EXPECT_THAT(why(decode_request(packet)), HasSubstr("does not end where the message ends"));
}

// Promise 12
TEST(Codec, ASecondSegmentIsMalformed) {
  Packet packet = encode(Request{1, Pools{}});
  packet[0] = std::byte{1};
  EXPECT_THAT(why(decode_request(packet)), HasSubstr("more than one segment"));
}

// Promise 12
TEST(Codec, ALengthThatIsNoMultipleOfEightIsMalformed) {
  Packet packet = encode(Request{1, Pools{}});
  packet.push_back(std::byte{0});
  EXPECT_THAT(why(decode_request(packet)), HasSubstr("multiple of 8"));
}

// Promise 12
TEST(Codec, ARequestOfExactlyTheLimitIsReadAndOneWordMoreIsNot) {
  // A List whose texts are padded by unused words at the end of the segment.
  const auto padded = [](std::size_t size) {
    Packet packet = encode(Request{1, Show{"alice/a"}});
    packet.resize(size);
    const auto words = static_cast<std::uint32_t>(size / 8 - 1);
    std::memcpy(packet.data() + 4, &words, sizeof words);
    return packet;
  };
  EXPECT_TRUE(decode_request(padded(kMaxRequest)));
  EXPECT_THAT(why(decode_request(padded(kMaxRequest + 8))), HasSubstr("at most 4096"));
}

// Promise 12: whatever single byte is wrong, the answer is a value or `malformed`, never a crash.
TEST(Codec, EveryFlippedByteIsReadOrRefused) {
  for (const Request& request : all_requests()) {
    const Packet good = encode(request);
    for (std::size_t i = 0; i < good.size(); ++i) {
      for (unsigned flip : {0x01U, 0x80U, 0xffU}) {
        Packet bad = good;
        bad[i] ^= static_cast<std::byte>(flip);
        const Result<Request> result = decode_request(bad);
        if (!result) {
          EXPECT_EQ(result.error().code, ErrorCode::malformed);
        }
      }
    }
  }
}

TEST(Codec, ReadsAPacketAtAnyAlignment) {
  const Packet packet = encode(Request{1, Show{"alice/a"}});
  std::vector<std::byte> room(packet.size() + 8);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::memcpy(room.data() + shift, packet.data(), packet.size());
    EXPECT_TRUE(decode_request(std::span(room).subspan(shift, packet.size())));
  }
}

TEST(Codec, ANameUpToTheDecodersLimitIsJudgedByRegionNameAndALongerOneIsMalformed) {
  const Result<Request> at_limit = decode_request(encode(Request{1, Show{std::string(kMaxNameText, 'a')}}));
  ASSERT_TRUE(at_limit);
  EXPECT_EQ(RegionName::parse(std::get<Show>(at_limit.value().body).name).error().code, ErrorCode::invalid);
  EXPECT_THAT(why(decode_request(encode(Request{1, Show{std::string(kMaxNameText + 1, 'a')}}))),
              HasSubstr("show.name: 257 bytes, at most 256"));
}

// Promise 12
TEST(Codec, ANameOfTenThousandBytesGetsOneClearError) {
  EXPECT_THAT(why(decode_request(encode(Request{1, Show{std::string(10'000, 'a')}}))),
              HasSubstr("at most 4096 are allowed"));
}

TEST(Codec, ANameWithAnEmbeddedNulIsMalformed) {
  EXPECT_THAT(why(decode_request(encode(Request{1, Show{std::string("a\0b", 3)}}))),
              HasSubstr("show.name: the byte at position 1"));
}

TEST(Codec, ANameThatIsNotUtf8IsMalformed) {
  for (const char* bad : {"a\x80", "a\xc0\xaf", "a\xed\xa0\x80", "a\xf4\x90\x80\x80", "a\xff", "a\xc3"}) {
    EXPECT_THAT(why(decode_request(encode(Request{1, Show{bad}}))), HasSubstr("position 1")) << bad;
  }
}

TEST(Codec, ControlCharactersReachRegionNameButNoOtherText) {
  EXPECT_TRUE(decode_request(encode(Request{1, Show{"a\nb"}})));
  EXPECT_THAT(why(decode_request(encode(Request{1, Hello{1, 0, "a\x1b[2J", ""}}))),
              HasSubstr("hello.client"));
  EXPECT_THAT(why(decode_request(encode(Request{1, List{"a\nb", "", 0}}))), HasSubstr("list.glob"));
}

TEST(Codec, LimitsOfTextsArePinned) {
  EXPECT_TRUE(decode_request(encode(Request{1, Hello{1, 0, std::string(64, 'c'), ""}})));
  EXPECT_FALSE(decode_request(encode(Request{1, Hello{1, 0, std::string(65, 'c'), ""}})));
  Create create;
  create.pool = std::string(64, 'p');
  EXPECT_TRUE(decode_request(encode(Request{1, create})));
  create.pool += 'p';
  EXPECT_FALSE(decode_request(encode(Request{1, create})));
}

TEST(Codec, AResumeTokenHasSixteenBytesOrNone) {
  for (std::size_t size : {1U, 15U, 17U}) {
    EXPECT_THAT(why(decode_request(encode(Request{1, Hello{1, 0, "c", std::string(size, 'r')}}))),
                HasSubstr("hello.resume"));
  }
}

TEST(Codec, ModeBitsOutsideRwAreMalformed) {
  Create create;
  for (std::uint32_t mode : {0777U, 0001U, 01000U, 0xffffU}) {
    create.mode = mode;
    EXPECT_THAT(why(decode_request(encode(Request{1, create}))), HasSubstr("create.mode")) << mode;
  }
}

TEST(Codec, DurationsAreWithinZeroAndAHundredYears) {
  EXPECT_TRUE(decode_request(encode(Request{1, Renew{"a", kMaxDuration}})));
  EXPECT_FALSE(decode_request(encode(Request{1, Renew{"a", kMaxDuration + nanoseconds(1)}})));
  EXPECT_FALSE(decode_request(encode(Request{1, Renew{"a", nanoseconds(-1)}})));
}

TEST(Codec, AnUnknownVerbIsMalformed) {
  const Packet good = encode(Request{1, Pools{}});
  // The union tag of Request.body follows the 8 header bytes, the root pointer and the id.
  constexpr std::size_t kTag = 8 + 8 + 8;
  Packet bad = good;
  ASSERT_EQ(bad[kTag], std::byte{7});
  bad[kTag] = std::byte{200};
  EXPECT_THAT(why(decode_request(bad)), HasSubstr("request: unknown verb 200"));
}

TEST(Codec, AnUnknownEnumerantIsMalformed) {
  Open open{"a", Access::read_write};
  const Packet good = encode(Request{1, open});
  std::size_t refused = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    Packet bad = good;
    if (bad[i] != std::byte{1}) continue;
    bad[i] = std::byte{2};
    refused +=
        why(decode_request(bad)).find("open.rights: unknown enumerant 2") != std::string::npos ? 1U : 0U;
  }
  EXPECT_EQ(refused, 1U);
}

TEST(Codec, AnErrorWithUnprintableBytesStillReachesTheClient) {
  const FromBroker answer =
      Reply{1, failure(ErrorCode::io, "open /tmp/\xff\n: no", {{"path", std::string("a\0b", 3)}})};
  const Result<FromBroker> back = decode_from_broker(encode(answer));
  ASSERT_TRUE(back) << back.error().sentence;
  const Failure& told = std::get<Failure>(std::get<Reply>(back.value()).body);
  EXPECT_EQ(told.sentence, "open /tmp/??: no");
  EXPECT_EQ(told.details.at(0).value, "a?b");
}

TEST(Codec, AnErrorLongerThanItsLimitIsCut) {
  const FromBroker answer = Reply{1, failure(ErrorCode::io, std::string(5000, 'x'),
                                             std::vector<Detail>(100, Detail{"k", std::string(600, 'v')}))};
  const Result<FromBroker> back = decode_from_broker(encode(answer));
  ASSERT_TRUE(back) << back.error().sentence;
  const Failure& told = std::get<Failure>(std::get<Reply>(back.value()).body);
  EXPECT_EQ(told.sentence.size(), kMaxSentence);
  EXPECT_TRUE(told.sentence.ends_with("x..."));
  EXPECT_EQ(told.details.size(), 32U);
}

TEST(Codec, APageOfTheLargestRegionsFitsWhatTheConstantSays) {
  RegionInfo largest = full_region();
  largest.name = std::string(RegionName::kMaxLength, 'n');
  largest.pool = std::string(kMaxPoolName, 'p');
  largest.endpoint = std::string(kMaxWord, 'e');
  const std::size_t one = encode(FromBroker(Reply{1, Listing{{largest}, ""}})).size();
  const std::size_t two = encode(FromBroker(Reply{1, Listing{{largest, largest}, ""}})).size();
  EXPECT_LE(two - one, kRegionInfoBytes);
}

TEST(Codec, TheLargestQuotaAndPoolFitWhatTheConstantsSay) {
  const QuotaInfo quota{
      SubjectKind::user,         1, std::string(kMaxPoolName, 'p'), {1, 2, 3, 4}, 5, 6, 7, 8, true,
      std::string(kMaxWord, 'e')};
  PoolInfo pool;
  pool.name = std::string(kMaxPoolName, 'p');
  pool.backing = "dax-device";
  pool.confinement_reason = std::string(1000, 'r');
  pool.seals = {SealKind::sealed, SealKind::revocable};
  pool.cache_modes = std::vector<CacheMode>(4, CacheMode::write_back);
  const auto growth = [](auto one, auto two) {
    return encode(FromBroker(Reply{1, two})).size() - encode(FromBroker(Reply{1, one})).size();
  };
  EXPECT_LE(growth(QuotaList{{quota}, ""}, QuotaList{{quota, quota}, ""}), kQuotaInfoBytes);
  EXPECT_LE(growth(PoolList{{pool}}, PoolList{{pool, pool}}), kPoolInfoBytes);
}

TEST(Codec, AnAnswerThatFitsNoPacketBecomesAnErrorWithTheSameId) {
  const Packet packet =
      encode(FromBroker(Reply{42, Listing{std::vector<RegionInfo>(1000, full_region()), ""}}));
  ASSERT_LE(packet.size(), kMaxPacket);
  const Result<FromBroker> back = decode_from_broker(packet);
  ASSERT_TRUE(back);
  const Reply& reply = std::get<Reply>(back.value());
  EXPECT_EQ(reply.id, 42U);
  EXPECT_EQ(std::get<Failure>(reply.body).code, ErrorCode::exhausted);
}

// Promise 12: a list that claims more elements than its packet has bytes.
TEST(Codec, AListOfManyEmptyElementsIsMalformed) {
  Packet packet = encode(FromBroker(Reply{1, Listing{{RegionInfo{}}, ""}}));
  bool found = false;
  // The list's tag word: element count << 2, then data and pointer words of one element. Claim 2^28 of size
  // zero.
  for (std::size_t i = 8; i + 8 <= packet.size(); i += 8) {
    std::uint32_t low = 0;
    std::memcpy(&low, packet.data() + i, sizeof low);
    if (low != (1U << 2U)) continue;
    const std::uint64_t claim = (1ULL << 28U) << 2U;
    std::memcpy(packet.data() + i, &claim, sizeof claim);
    found = true;
  }
  ASSERT_TRUE(found);
  const Result<FromBroker> back = decode_from_broker(packet);
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().code, ErrorCode::malformed);
}

}  // namespace
}  // namespace mapcap::schema
