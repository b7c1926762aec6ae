// Names, words and texts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/nearest.h"
#include "base/text.h"
#include "base/words.h"
#include "mapcap/words.h"
#include "schema/region_name.h"

namespace mapcap::schema {
namespace {

using testing::HasSubstr;

std::string why(std::string_view name) {
  const auto parsed = RegionName::parse(name);
  if (parsed) {
    EXPECT_EQ(parsed.value().str(), name);
    return "accepted";
  }
  EXPECT_EQ(parsed.error().code, ErrorCode::invalid);
  return parsed.error().sentence;
}

TEST(RegionName, TakesComponentsJoinedBySlashes) {
  for (const char* name : {"a", "alice/buffer-1", "A.b_c-d/0", "...", "a/.hidden", "a..b"}) {
    EXPECT_EQ(why(name), "accepted") << name;
  }
}

TEST(RegionName, TakesExactlyItsLargestLength) {
  EXPECT_EQ(why(std::string(RegionName::kMaxLength, 'a')), "accepted");
  EXPECT_THAT(why(std::string(RegionName::kMaxLength + 1, 'a')), HasSubstr("113 bytes long, at most 112"));
}

TEST(RegionName, SaysWhatIsWrongAndWhere) {
  EXPECT_THAT(why(""), HasSubstr("it is empty"));
  EXPECT_THAT(why("/a"), HasSubstr("an empty component at position 0"));
  EXPECT_THAT(why("a//b"), HasSubstr("an empty component at position 2"));
  EXPECT_THAT(why("a/"), HasSubstr("an empty component at position 2"));
  EXPECT_THAT(why("a/../b"), HasSubstr("the component \"..\" at position 2"));
  EXPECT_THAT(why("."), HasSubstr("the component \".\" at position 0"));
  EXPECT_THAT(why("a/-b"), HasSubstr("begins with '-' at position 2"));
  EXPECT_THAT(why("a*b"), HasSubstr("'*' at position 1 is not allowed"));
  EXPECT_THAT(why("a b"), HasSubstr("byte 0x20 at position 1"));
}

TEST(RegionName, ErrorsRepeatNoUnprintableByte) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string name{'a', static_cast<char>(byte)};
    const std::string told = why(name);
    EXPECT_EQ(find_bad_text(told, Controls::refused), std::string::npos) << byte;
  }
  EXPECT_THAT(why("a\x1b[2J"), HasSubstr("byte 0x1b at position 1"));
  EXPECT_THAT(why(std::string_view("a\0b", 3)), HasSubstr("byte 0x00"));
}

TEST(Words, AreReadAsTheyAreShown) {
  for (const auto value : {Access::read_only, Access::read_write}) {
    EXPECT_EQ(parse_access(to_string(value)).value(), value);
  }
  for (int i = 0; i <= static_cast<int>(CacheMode::uncached); ++i) {
    EXPECT_EQ(parse_cache_mode(to_string(static_cast<CacheMode>(i))).value(), static_cast<CacheMode>(i));
  }
  for (int i = 0; i <= static_cast<int>(Confinement::lsm); ++i) {
    EXPECT_EQ(parse_confinement(to_string(static_cast<Confinement>(i))).value(), static_cast<Confinement>(i));
  }
  for (const auto value : {SealKind::sealed, SealKind::revocable, SealKind::irrevocable}) {
    EXPECT_EQ(parse_seal_kind(to_string(value)).value(), value);
  }
  for (int i = 0; i <= static_cast<int>(LifetimeKind::persistent); ++i) {
    EXPECT_EQ(parse_lifetime_kind(to_string(static_cast<LifetimeKind>(i))).value(),
              static_cast<LifetimeKind>(i));
  }
}

TEST(Words, AnUnknownOneListsWhatIsAccepted) {
  EXPECT_EQ(parse_cache_mode("WB").error().sentence,
            "cache mode \"WB\" is not one of wb, wt, wc, uc; did you mean \"wb\"?");
  EXPECT_EQ(parse_access("\x1b").error().sentence, "rights \"?\" is not one of ro, rw");
}

TEST(LifetimeText, IsReadAsItIsShown) {
  const Lifetime lifetimes[] = {{LifetimeKind::connection, {}},
                                {LifetimeKind::persistent, {}},
                                {LifetimeKind::ttl, std::chrono::seconds(3661)}};
  for (const Lifetime& lifetime : lifetimes)
    EXPECT_EQ(parse_lifetime(format_lifetime(lifetime)).value(), lifetime);
  EXPECT_EQ(format_lifetime(lifetimes[2]), "ttl:1h1m1s");
  for (const char* text : {"", "ttl", "ttl:", "ttl:x", "connection:1h", "forever"}) {
    EXPECT_FALSE(parse_lifetime(text)) << text;
  }
}

TEST(Text, PresentableTextIsAlwaysGoodAndNeverTooLong) {
  const std::string hostile("\0\x01\xff\xc3\xa9\xed\xa0\x80\xf0\x9f\x98\x80\xe2\x82", 14);
  for (std::size_t room = 3; room < 40; ++room) {
    const std::string shown = presentable(hostile, room);
    EXPECT_LE(shown.size(), room);
    EXPECT_EQ(find_bad_text(shown, Controls::refused), std::string::npos);
  }
  EXPECT_EQ(presentable(hostile, 100), "???\xc3\xa9???\xf0\x9f\x98\x80??");
}

TEST(Text, IsCutBeforeAWholeCharacter) {
  EXPECT_EQ(presentable("abcdef", 6), "abcdef");
  EXPECT_EQ(presentable("abcdefg", 6), "abc...");
  EXPECT_EQ(presentable("ab\xc3\xa9 fg", 6), "ab...");
}

TEST(Text, OnlyWellFormedUtf8WithoutNulIsGood) {
  for (const char* good : {"", "abc", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xef\xbf\xbf",
                           "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_EQ(find_bad_text(good, Controls::refused), std::string::npos) << good;
  }
  for (const char* bad : {"\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe1\x80"}) {
    EXPECT_EQ(find_bad_text(bad, Controls::allowed), 0U) << bad;
  }
  EXPECT_EQ(find_bad_text(std::string_view("a\0", 2), Controls::allowed), 1U);
  EXPECT_EQ(find_bad_text("a\n", Controls::allowed), std::string::npos);
  EXPECT_EQ(find_bad_text("a\n", Controls::refused), 1U);
  EXPECT_EQ(find_bad_text("a\x7f", Controls::refused), 1U);
}

TEST(Nearest, IsTheWordThatWasMeant) {
  const std::vector<std::string_view> known{"open", "create", "max_size", "ro", "rw", "uid"};
  EXPECT_EQ(nearest("opne", known), "open");
  EXPECT_EQ(nearest("Create", known), "create");
  EXPECT_EQ(nearest("max-size", known), "max_size");
  EXPECT_EQ(nearest("crate", known), "create");
  EXPECT_EQ(nearest("creates", known), "create");
  EXPECT_EQ(nearest("max", known), "max_size");
  EXPECT_EQ(nearest("delete", known), "");
  EXPECT_EQ(nearest("xy", known), "");
  EXPECT_EQ(nearest("", known), "");
  EXPECT_EQ(nearest(std::string(10'000, 'a'), known), "");
}

TEST(ParseLifetime, ADurationIsToldToBeATtl) {
  EXPECT_EQ(parse_lifetime("1h").error().sentence, "lifetime \"1h\" is a duration; write ttl:1h");
}

}  // namespace
}  // namespace mapcap::schema
