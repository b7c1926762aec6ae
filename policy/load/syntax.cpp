#include "policy/load/syntax.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/pieces.h"
#include "base/text.h"

namespace mapcap::policy {
namespace {

constexpr std::string_view kBlank = " \t\r";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

bool continues(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

/// The column, in characters, of a byte of the line.
std::uint32_t column_of(std::string_view line, std::size_t byte) {
  const std::string_view before = line.substr(0, byte);
  return 1 + static_cast<std::uint32_t>(
                 std::count_if(before.begin(), before.end(), [](char c) { return !continues(c); }));
}

/// The byte of a column, at most the line's length.
std::size_t byte_of(std::string_view line, std::uint32_t column) {
  std::size_t byte = 0;
  for (std::uint32_t at = 1; at < column && byte < line.size(); ++at) {
    ++byte;
    while (byte < line.size() && continues(line[byte])) ++byte;
  }
  return byte;
}

/// A quote that the line opens and does not close. Comments hold none.
struct OpenQuote {
  std::size_t at = 0;
  std::string mark;
};
std::optional<OpenQuote> open_quote(std::string_view line) {
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char quote = line[i];
    if (quote == '#') return std::nullopt;
    if (quote != '"' && quote != '\'') continue;
    const std::string triple(3, quote);
    const bool long_string = line.substr(i).starts_with(triple);
    const std::string mark = long_string ? triple : std::string(1, quote);
    std::size_t end = i + mark.size();
    while (end < line.size() && !line.substr(end).starts_with(mark))
      end += quote == '"' && line[end] == '\\' ? 2 : 1;
    if (end >= line.size()) return OpenQuote{i, mark};
    i = end + mark.size() - 1;
  }
  return std::nullopt;
}

/// What stands at the place, from blank or bracket to blank or bracket.
struct Token {
  std::size_t at = 0;
  std::string_view text;
};
Token token_at(std::string_view line, std::size_t byte) {
  constexpr std::string_view kEdges = " \t\r=[,{]}#";
  byte = std::min(byte, line.size());
  std::size_t first = byte;
  while (first > 0 && kEdges.find(line[first - 1]) == std::string_view::npos) --first;
  const std::size_t end = std::min(line.find_first_of(kEdges, std::max(first, byte)), line.size());
  return {first, line.substr(first, end - first)};
}

/// What a line sets: "grace" of `grace = "5s"`.
std::string_view key_of(std::string_view line) {
  return trimmed(line.substr(0, line.find('=')));
}

/// The line above `line` (both from 1) that begins what is set or opened again, or 0.
std::size_t first_of(const std::vector<std::string_view>& lines, std::size_t line) {
  const std::string_view again = trimmed(lines[line - 1]);
  const bool header = again.starts_with('[');
  for (std::size_t above = line - 1; above > 0; --above) {
    const std::string_view other = trimmed(lines[above - 1]);
    if (header ? other == again : key_of(other) == key_of(again)) return above;
    if (!header && other.starts_with('[')) break;
  }
  return 0;
}

class Reader {
 public:
  Reader(std::string_view text, Position at, std::string_view said)
      : lines_(lines_of(text)), at_(at), said_(said) {
    at_.line = std::clamp<std::uint32_t>(at_.line, 1, static_cast<std::uint32_t>(lines_.size()));
    line_ = lines_[at_.line - 1];
    byte_ = byte_of(line_, at_.column);
  }

  Problem told() {
    std::string message = in_words();
    return {Severity::error, at_, std::move(message)};
  }

 private:
  [[nodiscard]] bool says(std::string_view words) const {
    return said_.find(words) != std::string_view::npos;
  }

  void move_to(std::size_t byte) { at_.column = column_of(line_, byte); }

  std::string in_words() {
    if (says("utf-8")) return "this is no UTF-8 text";
    if (says("string") && (says("control characters") || says("end-of-file"))) return unclosed_string();
    if (says("escape sequence"))
      return "a backslash begins an escape: write \\\\, or the string in single quotes";
    if (says("cannot redefine")) return again();
    if (trimmed(line_).starts_with('[') && says("table header")) return header();
    if (says("parsing array")) return list();
    if (says("inline table")) return "this { is not closed: a } is missing";
    if (says("expected '='")) return no_value();
    if (says("expected value, saw")) return "the key has no value";
    if (says("expected a comment or whitespace")) return one_too_many();
    if (says("root table")) return no_key();
    if (says("value type") || says("integer") || says("boolean") || says("floating-point"))
      return bare_value();
    std::string_view rest = said_;
    for (const std::string_view prefix : {"Error while parsing "}) {
      if (rest.starts_with(prefix)) rest.remove_prefix(prefix.size());
    }
    return presentable(rest, 300);
  }

  std::string unclosed_string() {
    const std::optional<OpenQuote> open = open_quote(line_);
    if (open) {
      move_to(open->at);
      return "this string is not closed: a " + open->mark + " is missing";
    }
    // One of several lines: its beginning is above.
    for (std::size_t above = at_.line; above-- > 1;) {
      const std::optional<OpenQuote> begun = open_quote(lines_[above - 1]);
      if (!begun || begun->mark.size() != 3) continue;
      at_ = {static_cast<std::uint32_t>(above), column_of(lines_[above - 1], begun->at)};
      return "this string is not closed: a " + begun->mark + " is missing";
    }
    return "a control character in a string; write it as an escape such as \\n";
  }

  std::string again() {
    const std::string_view text = trimmed(line_);
    const std::size_t above = first_of(lines_, at_.line);
    const std::string where = above == 0 ? "" : ", at line " + std::to_string(above);
    if (!text.starts_with('[')) return std::string(key_of(text)) + " is set already" + where;
    if (above == 0 && text.starts_with("[[")) {
      std::string_view name = text;
      name.remove_prefix(2);
      name = name.substr(0, name.find(']'));
      return "\"" + presentable(name, 40) + "\" is used otherwise above: it cannot be a list as well";
    }
    return presentable(text, 60) + " is there already" + where;
  }

  std::string header() {
    std::string_view name = trimmed(line_);
    const bool list = name.starts_with("[[");
    name.remove_prefix(list ? 2 : 1);
    name = trimmed(name.substr(0, name.find_first_of("]#[")));
    if (name.empty()) return "a header needs a name";
    const std::string shown = presentable(name, 60);
    const bool closes_list = line_.find("]]") != std::string_view::npos;
    if (list != closes_list && (shown == "rule" || shown == "quota" || list))
      return "the header is not closed as it was opened: write [[" + shown + "]]";
    if (says("expected ']'") || list != closes_list) return "the header is not closed: write [" + shown + "]";
    if (says("expected a comment")) return "nothing but a comment may follow a header";
    return "the header's name has characters that need quotes, or ends with a dot";
  }

  std::string list() {
    if (says("saw comma")) return "one comma too many in this list";
    if (says("saw '\"'") || says("saw '''")) return "a comma is missing between the elements of this list";
    for (std::size_t number = at_.line; number > 0; --number) {
      const std::string_view above = lines_[number - 1];
      const std::size_t equals = above.find('=');
      const std::size_t bracket = equals == std::string_view::npos ? equals : above.find('[', equals);
      if (bracket == std::string_view::npos) continue;
      if (number == at_.line && bracket >= byte_) continue;
      at_ = {static_cast<std::uint32_t>(number), column_of(above, bracket)};
      return "this list is not closed: a ] is missing";
    }
    return "this list is not closed: a ] is missing";
  }

  std::string no_value() {
    if (byte_ < line_.size() && line_[byte_] == ':') return "write = instead of :";
    const std::string word = presentable(trimmed(line_), 60);
    move_to(line_.find_first_not_of(kBlank));
    return "\"" + word + "\" is neither KEY = VALUE nor a [header]";
  }

  std::string one_too_many() {
    if (byte_ < line_.size() && (line_[byte_] == ',' || line_[byte_] == ';'))
      return "a line ends without , or ;";
    return "one KEY = VALUE stands on a line, and nothing but a comment may follow it";
  }

  std::string no_key() {
    if (byte_ < line_.size() && line_[byte_] == '=') return "a key is missing before the =";
    if (trimmed(line_).starts_with("//") || trimmed(line_).starts_with(';')) return "a comment begins with #";
    return "this is neither KEY = VALUE nor a [header]";
  }

  std::string bare_value() {
    const Token token = token_at(line_, byte_ > 0 && byte_ >= line_.size() ? line_.size() - 1 : byte_);
    if (token.text.empty() && byte_ < line_.size() && line_[byte_] == '=') return "one = is enough";
    move_to(token.at);
    std::string word(token.text);
    std::transform(word.begin(), word.end(), word.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    if (word == "true" || word == "yes" || word == "on")
      return "write true, in small letters and without quotes";
    if (word == "false" || word == "no" || word == "off")
      return "write false, in small letters and without quotes";
    // UTF-8 of the quotes that word processors make.
    for (const std::string_view curly : {"\xe2\x80\x9c", "\xe2\x80\x9d", "\xe2\x80\x98", "\xe2\x80\x99"}) {
      if (word.starts_with(curly)) return "these are no plain quotes: write \" before and after the word";
    }
    if (word.ends_with(';')) return "a line ends without , or ;";
    if (token.text.empty()) return "this is no value";
    return "this value needs quotes: \"" + presentable(token.text, 60) + "\"";
  }

  std::vector<std::string_view> lines_;
  Position at_;
  std::string_view said_;
  std::string_view line_;
  std::size_t byte_ = 0;
};

}  // namespace

Problem syntax_problem(std::string_view text, Position at, std::string_view said) {
  return Reader(text, at, said).told();
}

}  // namespace mapcap::policy
