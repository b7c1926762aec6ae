// How outcomes are counted and shown.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ostream>

#include "client/attack/attack.h"

namespace mapcap::attack {
namespace {

std::string error_name(int error) {
  if (error == 0) return "";
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : std::to_string(error);
}

std::string verdict(const Outcome& outcome) {
  if (is_hole(outcome)) return "HOLE";
  if (is_broken(outcome)) return "broken";
  if (outcome.seen == Seen::left_out) return "left out";
  return "ok";
}

std::string explanation(const Outcome& outcome) {
  std::string text = error_name(outcome.error);
  for (const std::string& part : {outcome.damage, outcome.note}) {
    if (part.empty()) continue;
    if (!text.empty()) text += ", ";
    text += part;
  }
  return text;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void print_padded(std::ostream& out, std::string_view text, std::size_t width) {
  out << text;
  for (std::size_t i = text.size(); i < width; ++i) out << ' ';
  out << "  ";
}

}  // namespace

const char* to_string(Expected expected) {
  switch (expected) {
    case Expected::refused:
      return "refused";
    case Expected::allowed:
      return "allowed";
    case Expected::harmless:
      return "either";
  }
  std::abort();
}

const char* to_string(Seen seen) {
  switch (seen) {
    case Seen::refused:
      return "refused";
    case Seen::allowed:
      return "allowed";
    case Seen::unsupported:
      return "unsupported";
    case Seen::inconclusive:
      return "inconclusive";
    case Seen::left_out:
      return "not tried";
  }
  std::abort();
}

bool is_hole(const Outcome& outcome) {
  return !outcome.damage.empty() || (outcome.expected == Expected::refused && outcome.seen == Seen::allowed);
}

bool is_broken(const Outcome& outcome) {
  if (is_hole(outcome)) return false;
  return outcome.seen == Seen::inconclusive ||
         (outcome.seen != Seen::left_out && outcome.expected == Expected::allowed &&
          outcome.seen != Seen::allowed);
}

Summary summarize(const std::vector<Outcome>& outcomes) {
  Summary sum{.operations = outcomes.size()};
  for (const Outcome& outcome : outcomes) {
    sum.refused += outcome.seen == Seen::refused ? 1 : 0;
    sum.allowed += outcome.seen == Seen::allowed ? 1 : 0;
    sum.unsupported += outcome.seen == Seen::unsupported ? 1 : 0;
    sum.left_out += outcome.seen == Seen::left_out ? 1 : 0;
    sum.holes += is_hole(outcome) ? 1 : 0;
    sum.broken += is_broken(outcome) ? 1 : 0;
  }
  return sum;
}

void print_table(std::ostream& out, const std::vector<Outcome>& outcomes, Rows rows) {
  std::vector<const Outcome*> shown;
  for (const Outcome& outcome : outcomes) {
    if (rows == Rows::all || is_hole(outcome) || is_broken(outcome) || outcome.seen == Seen::left_out)
      shown.push_back(&outcome);
  }
  if (!shown.empty()) {
    std::size_t family = 6;
    std::size_t operation = 9;
    for (const Outcome* outcome : shown) {
      family = std::max(family, outcome->family.size());
      operation = std::max(operation, outcome->operation.size());
    }
    const auto row = [&](std::string_view a, std::string_view b, std::string_view c, std::string_view d,
                         std::string_view e, std::string_view f) {
      print_padded(out, a, 8);
      print_padded(out, b, family);
      print_padded(out, c, operation);
      print_padded(out, d, 8);
      print_padded(out, e, 12);
      out << f << '\n';
    };
    row("RESULT", "FAMILY", "OPERATION", "EXPECTED", "SEEN", "DETAIL");
    for (const Outcome* outcome : shown) {
      row(verdict(*outcome), outcome->family, outcome->operation, to_string(outcome->expected),
          to_string(outcome->seen), explanation(*outcome));
    }
    out << '\n';
  }
  const Summary sum = summarize(outcomes);
  out << sum.operations - sum.left_out << " operations tried: " << sum.refused << " refused, " << sum.allowed
      << " allowed, " << sum.unsupported << " not on this machine; " << sum.holes
      << (sum.holes == 1 ? " hole, " : " holes, ") << sum.broken << " broken";
  if (sum.left_out > 0) out << "; " << sum.left_out << " left out";
  out << '\n';
}

void print_json(std::ostream& out, const std::vector<Outcome>& outcomes) {
  out << "{\"operations\":[";
  const char* separator = "";
  for (const Outcome& outcome : outcomes) {
    out << separator << "{\"family\":" << quoted(outcome.family)
        << ",\"operation\":" << quoted(outcome.operation)
        << ",\"expected\":" << quoted(to_string(outcome.expected))
        << ",\"seen\":" << quoted(to_string(outcome.seen))
        << ",\"hole\":" << (is_hole(outcome) ? "true" : "false")
        << ",\"broken\":" << (is_broken(outcome) ? "true" : "false")
        << ",\"errno\":" << quoted(error_name(outcome.error)) << ",\"damage\":" << quoted(outcome.damage)
        << ",\"note\":" << quoted(outcome.note) << "}";
    separator = ",";
  }
  const Summary sum = summarize(outcomes);
  out << "],\"tried\":" << sum.operations - sum.left_out << ",\"left_out\":" << sum.left_out
      << ",\"refused\":" << sum.refused << ",\"allowed\":" << sum.allowed
      << ",\"unsupported\":" << sum.unsupported << ",\"holes\":" << sum.holes << ",\"broken\":" << sum.broken
      << "}\n";
}

}  // namespace mapcap::attack
