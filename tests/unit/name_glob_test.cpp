// A glob is refused exactly when no name matches it.
#include "schema/name_glob.h"

#include <gmock/gmock.h>

#include <vector>

#include "base/units.h"
#include "base/glob.h"
#include "schema/region_name.h"

namespace mapcap::schema {
namespace {

using testing::HasSubstr;

/// Every text of up to `length` bytes of an alphabet.
std::vector<std::string> texts(std::string_view alphabet, std::size_t length) {
  std::vector<std::string> all{""};
  for (std::size_t first = 0, round = 0; round < length; ++round) {
    const std::size_t last = all.size();
    for (; first < last; ++first) {
      for (const char c : alphabet) all.push_back(all[first] + c);
    }
  }
  return all;
}

bool read_by_the_grammar(std::string_view text) {
  NamePlace place = NamePlace::start;
  for (const char c : text) {
    const std::optional<NamePlace> next = name_goes_on(place, c);
    if (!next) return false;
    place = *next;
  }
  return place == NamePlace::inside;
}

TEST(NameGlob, TheGrammarIsThatOfRegionNames) {
  for (const std::string& text : texts("a.-/*", 6))
    ASSERT_EQ(read_by_the_grammar(text), RegionName::parse(text).has_value()) << text;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text{'a', static_cast<char>(byte)};
    ASSERT_EQ(read_by_the_grammar(text), RegionName::parse(text).has_value()) << byte;
  }
}

// Promise 14. Names of up to six bytes are enough for globs of up to four.
TEST(NameGlob, IsRefusedExactlyWhenNoNameMatchesIt) {
  std::vector<std::string> names;
  for (std::string& text : texts("a.-/", 6)) {
    if (RegionName::parse(text)) names.push_back(std::move(text));
  }
  for (const std::string& pattern : texts("a.-/*?", 4)) {
    bool matched = false;
    for (std::size_t i = 0; i < names.size() && !matched; ++i) matched = glob_match(pattern, names[i]);
    ASSERT_EQ(why_no_name_matches(pattern, Placeholders::none).empty(), matched) << pattern;
  }
}

TEST(NameGlob, SaysWhyAndWhatWasPerhapsMeant) {
  const auto why = [](std::string_view pattern) { return why_no_name_matches(pattern, Placeholders::known); };
  EXPECT_EQ(why("/payroll/**"), "matches no name: names begin with no slash; did you mean \"payroll/**\"?");
  EXPECT_EQ(why("payroll/"), "matches no name: names end with no slash; did you mean \"payroll/**\"?");
  EXPECT_EQ(why("payroll//**"),
            "matches no name: an empty component at position 8; did you mean \"payroll/**\"?");
  EXPECT_EQ(why("./payroll/**"),
            "matches no name: a component \".\" or \"..\" before the slash at position 1; "
            "did you mean \"payroll/**\"?");
  EXPECT_THAT(why("../payroll/**"), HasSubstr("did you mean \"payroll/**\"?"));
  EXPECT_EQ(why("payroll/."),
            "matches no name: its last component is \".\" or \"..\"; did you mean \"payroll\"?");
  EXPECT_EQ(why("a/-*"), "matches no name: a component that begins with '-' at position 2");
  EXPECT_EQ(why("[ab]"), "matches no name: no name has '[' at position 0; globs know * ? ** {user} {uid}");
  EXPECT_THAT(why("{group}/**"), HasSubstr("no name has '{' at position 0"));
  EXPECT_THAT(why("\xc3\xa4"), HasSubstr("no name has this character"));
  EXPECT_EQ(why(""), "matches no name: it is empty");
}

TEST(NameGlob, LengthsAreThoseOfNames) {
  const std::string longest(RegionName::kMaxLength, 'a');
  const auto matches = [](const std::string& pattern) {
    return why_no_name_matches(pattern, Placeholders::known).empty();
  };
  EXPECT_TRUE(matches(longest));
  EXPECT_FALSE(matches(longest + "a"));
  EXPECT_TRUE(matches(longest + "*"));
  EXPECT_FALSE(matches(longest + "?"));
  EXPECT_FALSE(matches(longest + "{user}"));
  EXPECT_TRUE(matches(std::string(kMaxGlob, '*')));
  EXPECT_FALSE(matches(std::string(kMaxGlob + 1, '*')));
}

TEST(NameGlob, AUserStandsForAPartOfAComponent) {
  const auto matches = [](std::string_view pattern, Placeholders placeholders = Placeholders::known) {
    return why_no_name_matches(pattern, placeholders).empty();
  };
  for (const char* pattern : {"{user}", "{uid}/**", "x{user}y/**", ".{user}", "{user}.", "a/{user}-{uid}"})
    EXPECT_TRUE(matches(pattern)) << pattern;
  for (const char* pattern : {"-{user}", "{user}//a", "{user}/", "{user", "{User}", "/{user}/**"})
    EXPECT_FALSE(matches(pattern)) << pattern;
  EXPECT_FALSE(matches("{user}/**", Placeholders::none));
}

}  // namespace
}  // namespace mapcap::schema
