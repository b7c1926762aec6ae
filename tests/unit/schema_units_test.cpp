// Bytes, durations, modes and globs as people write them.
#include "base/units.h"
#include "base/glob.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace mapcap::schema {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(Bytes, AreReadWithUnitsOfPowersOf1024) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"0", 0},
      {"4096", 4096},
      {"4096B", 4096},
      {"64K", 65536},
      {"64k", 65536},
      {"64M", 64ULL << 20U},
      {"64MB", 64ULL << 20U},
      {"64MiB", 64ULL << 20U},
      {"1.5G", 3ULL << 29U},
      {"2T", 2ULL << 40U},
      {"1P", 1ULL << 50U},
      {"0.5K", 512},
      {"1.3K", 1331},  // 1331.2, rounded down
      {"0.000000001K", 0},
      {"9223372036854775807", (1ULL << 63U) - 1},
      {"7E", 7ULL << 60U},
  };
  for (const auto& [text, value] : cases) {
    const auto parsed = parse_bytes(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(parsed.value().value, value) << text;
  }
}

TEST(Bytes, AnythingElseIsInvalid) {
  for (const char* text : {"",
                           " ",
                           "-1",
                           "+1",
                           "1 M",
                           "M",
                           "1.5",
                           "1.M",
                           ".5M",
                           "1.1234567890M",
                           "64X",
                           "64iB",
                           "64Mi",
                           "64MBB",
                           "0x10",
                           "1e3",
                           "9223372036854775808",
                           "8E",
                           "18446744073709551616",
                           "99999999999999999999999E",
                           "1,5G",
                           "1K\n"}) {
    const auto parsed = parse_bytes(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::invalid);
  }
  EXPECT_FALSE(parse_bytes(std::string_view("1\0", 2)));
}

TEST(Bytes, AreShownInTheLargestUnitThatIsExactToATenth) {
  const std::pair<std::uint64_t, const char*> cases[] = {
      {0, "0"},
      {1023, "1023"},
      {1024, "1K"},
      {1025, "1025"},
      {1536, "1.5K"},
      {64ULL << 20U, "64M"},
      {3ULL << 29U, "1.5G"},
      {(1ULL << 30U) + 1, "1073741825"},
      {~0ULL, "18446744073709551615"},
  };
  for (const auto& [value, text] : cases) EXPECT_EQ(format_bytes({value}), text);
}

TEST(Bytes, AreRoundedToATenthOfTheLargestUnitForPeople) {
  const std::pair<std::uint64_t, const char*> cases[] = {
      {0, "0"},
      {1023, "1023"},
      {1025, "1K"},
      {1536, "1.5K"},
      {64ULL << 20U, "64M"},
      {162565256, "155M"},
      {12638253056, "11.8G"},
      {(1U << 20U) - 1, "1M"},
      {~0ULL, "16E"},
  };
  for (const auto& [value, text] : cases) EXPECT_EQ(round_bytes({value}), text);
}

TEST(Bytes, ShownAndReadAgainAreUnchanged) {
  std::mt19937_64 random(1);  // any seed: the property holds for every value
  for (int i = 0; i < 10'000; ++i) {
    const ByteCount value{(random() >> 1U) >> (random() % 63) << (random() % 20) & ((1ULL << 63U) - 1)};
    EXPECT_EQ(parse_bytes(format_bytes(value)).value(), value);
  }
}

TEST(Duration, IsReadWithUnits) {
  const std::pair<const char*, std::chrono::nanoseconds> cases[] = {
      {"0", 0s},
      {"30", 30s},
      {"500ms", 500ms},
      {"30s", 30s},
      {"5m", 5min},
      {"1h", 1h},
      {"7d", 168h},
      {"1h5m", 65min},
      {"1h 5m", 65min},
      {"1d1ns", 24h + 1ns},
      {"36525d", kMaxDuration},
  };
  for (const auto& [text, value] : cases) {
    const auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(parsed.value(), value) << text;
  }
}

TEST(Duration, AnythingElseIsInvalid) {
  for (const char* text : {"", " ", "-1s", "1.5h", "h", "5x", "5 s", "5m1h", "5s5s", "1h30", "1h  5m", "1h ",
                           "36525d1ns", "36526d", "99999999999999999999s", "1w", "5M", "1s\n"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Duration, IsShownInItsTwoLargestUnits) {
  EXPECT_EQ(format_duration(0s), "0s");
  EXPECT_EQ(format_duration(250ms), "250ms");
  EXPECT_EQ(format_duration(65min), "1h 5m");
  EXPECT_EQ(format_duration(1h + 5s), "1h");
  EXPECT_EQ(format_duration(25h + 1min), "1d 1h");
  EXPECT_EQ(format_duration(-30s), "-30s");
  EXPECT_EQ(format_duration(std::chrono::nanoseconds::min()).front(), '-');
}

TEST(Duration, ShownExactlyAndReadAgainIsUnchanged) {
  EXPECT_EQ(format_duration_exact(1h + 5min + 7s), "1h5m7s");
  std::mt19937_64 random(2);  // any seed
  for (int i = 0; i < 10'000; ++i) {
    const std::chrono::nanoseconds value(
        static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(kMaxDuration.count())));
    EXPECT_EQ(parse_duration(format_duration_exact(value)).value(), value);
  }
}

TEST(Mode, IsOctalReadAndWriteBits) {
  EXPECT_EQ(parse_mode("0640").value(), 0640U);
  EXPECT_EQ(parse_mode("640").value(), 0640U);
  EXPECT_EQ(parse_mode("0").value(), 0U);
  EXPECT_EQ(parse_mode("0666").value(), 0666U);
  for (const char* text : {"", "0777", "0700", "1640", "8", "0o640", "-640", "00640", "rw", "640 ", "0x1"}) {
    EXPECT_FALSE(parse_mode(text)) << text;
  }
  EXPECT_EQ(format_mode(0640), "0640");
  EXPECT_EQ(format_mode(0), "0000");
}

struct Match {
  const char* pattern;
  const char* text;
  bool matches;
};
TEST(Glob, MatchesWholeStrings) {
  const Match cases[] = {
      {"", "", true},
      {"", "a", false},
      {"a", "a", true},
      {"a", "ab", false},
      {"ab", "a", false},
      {"?", "a", true},
      {"?", "", false},
      {"?", "/", false},
      {"a?c", "abc", true},
      {"*", "", true},
      {"*", "abc", true},
      {"*", "a/b", false},
      {"a/*", "a/b", true},
      {"a/*", "a/b/c", false},
      {"a/*", "a", false},
      {"*/b", "a/b", true},
      {"*/*", "a/b", true},
      {"*/*", "ab", false},
      {"**", "", true},
      {"**", "a/b/c", true},
      {"a/**", "a/b/c", true},
      {"a/**", "a", false},
      {"a/**", "ab/c", false},
      {"**/c", "a/b/c", true},
      {"**/c", "c", false},
      {"a/**/c", "a/b/c", true},
      {"a/**/c", "a/c", false},
      {"a**c", "a/b/c", true},
      {"***", "a/b", true},
      {"*a*b*", "xxaxxbxx", true},
      {"*a*b*", "xxbxxaxx", false},
      {"*ab", "aab", true},
      {"*aab", "aaab", true},
      {"**a*b", "x/ayb", true},
      {"**a*b", "x/a/b", false},
      {"**a*b", "a/ab", true},
      {"*?", "a", true},
      {"?*", "a", true},
      {"*?", "", false},
      {"a*", "a", true},
      {"*a", "ba/a", false},
      {"**a", "ba/a", true},
      {"[a]", "a", false},
      {"\\*", "*", false},
  };
  for (const Match& one : cases) {
    EXPECT_EQ(glob_match(one.pattern, one.text), one.matches) << one.pattern << " on " << one.text;
  }
}

/// The definition, slow and recursive: what glob_match must agree with.
bool matches_by_definition(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  const bool across = pattern.starts_with("**");
  if (pattern.front() == '*') {
    const std::string_view rest = pattern.substr(across ? 2 : 1);
    for (std::size_t taken = 0; taken <= text.size(); ++taken) {
      if (matches_by_definition(rest, text.substr(taken))) return true;
      if (!across && taken < text.size() && text[taken] == '/') return false;
    }
    return false;
  }
  if (text.empty()) return false;
  const bool one = pattern.front() == '?' ? text.front() != '/' : pattern.front() == text.front();
  return one && matches_by_definition(pattern.substr(1), text.substr(1));
}

TEST(Glob, AgreesWithItsDefinitionOnEveryShortPatternAndText) {
  const auto strings_of = [](std::string_view alphabet, std::size_t longest) {
    std::vector<std::string> all{""};
    for (std::size_t i = 0, end = 1; longest > 0; --longest, end = all.size()) {
      for (; i < end; ++i) {
        for (const char c : alphabet) all.push_back(all[i] + c);
      }
    }
    return all;
  };
  const auto texts = strings_of("ab/", 5);
  for (const std::string& pattern : strings_of("a/?*", 5)) {
    for (const std::string& text : texts) {
      ASSERT_EQ(glob_match(pattern, text), matches_by_definition(pattern, text)) << pattern << " on " << text;
    }
  }
}

// Promise 12: what makes a matcher slow is many stars, since each can be anywhere in the text.
TEST(Glob, TheStepsOfAMatchDoNotGrowWithTheStars) {
  const std::string text(255, 'a');
  for (const std::string& part :
       {std::string("*a**a"), std::string("*"), std::string("*a"), std::string("a?*")}) {
    std::string pattern;
    while (pattern.size() + part.size() < 256) pattern += part;
    std::size_t steps = 0;
    EXPECT_FALSE(Glob(pattern + "b").matches(text, &steps));
    EXPECT_LE(steps, text.size() * 5) << pattern;
  }
}

// Places at the edges of the words that hold them.
TEST(Glob, LongPatternsMatchLikeShortOnes) {
  for (std::size_t before = 55; before < 140; ++before) {
    const std::string head = "a*b" + std::string(before, 'x');
    for (const char* tail : {"*", "**", "?", "*z", "**z", "?z", "z*", "*z*"}) {
      const std::string pattern = head + tail;
      for (const char* end : {"", "z", "yz", "zy", "y/z", "/", "yzy"}) {
        const std::string text = "a--b" + std::string(before, 'x') + end;
        EXPECT_EQ(glob_match(pattern, text), glob_match(std::string("x") + tail, std::string("x") + end))
            << pattern << " on " << text;
      }
    }
  }
}

}  // namespace
}  // namespace mapcap::schema
