// Text that fits a terminal.
#include "client/cli/terminal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>

namespace mapcap::cli {
namespace {

std::size_t widest(const std::string& text) {
  std::istringstream lines(text);
  std::size_t most = 0;
  for (std::string line; std::getline(lines, line);) most = std::max(most, line.size());
  return most;
}

TEST(Fitted, AnExplanationGoesOnInItsColumn) {
  EXPECT_EQ(fitted("  --pool TEXT   The pool to carve from, or else the first\n", 40, 16),
            "  --pool TEXT   The pool to carve from,\n"
            "                or else the first\n");
}

TEST(Fitted, ALineGoesOnAsFarInAsItBegan) {
  EXPECT_EQ(fitted("one two three four\n", 9), "one two\nthree\nfour\n");
  EXPECT_EQ(fitted("  one two three\n", 9), "  one two\n  three\n");
}

TEST(Fitted, WordsStayWholeAndWithoutATerminalNothingChanges) {
  const std::string word(50, 'x');
  EXPECT_EQ(fitted("a " + word + " b\n", 20), "a\n" + word + "\nb\n");
  EXPECT_EQ(fitted("a long line\n", 0), "a long line\n");
}

TEST(Fitted, NoWidthIsTooSmallToEnd) {
  const std::string help = "  --lifetime TEXT [persistent]    connection, ttl:1h or persistent. This program's end\n";
  for (std::size_t width = 1; width < 120; ++width) EXPECT_FALSE(fitted(help, width, 34).empty());
  EXPECT_LE(widest(fitted(help, 60, 34)), 60U);
}

TEST(Shortened, KeepsBothEnds) {
  EXPECT_EQ(shortened("filling a/very/long/name", 12), "fill.../name");
  EXPECT_EQ(shortened("short", 12), "short");
  EXPECT_EQ(shortened("name", 2), "me");
  EXPECT_EQ(shortened("name", 0), "name");
}

}  // namespace
}  // namespace mapcap::cli
