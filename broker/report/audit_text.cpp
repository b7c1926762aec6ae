#include "broker/report/audit_text.h"

#include <systemd/sd-daemon.h>

#include <string_view>
#include <vector>

#include "base/text.h"

namespace mapcap::broker {

namespace {

struct Field {
  std::string_view key;      ///< In logfmt.
  std::string_view journal;  ///< In the journal.
  std::string value;
};

/// What a value may be long, in bytes: a whole record fits a line (kLongestLogLine).
constexpr std::size_t kShort = 256;
constexpr std::size_t kSentence = 1024;

/// In the order of the line; without those that are not known.
std::vector<Field> fields_of(const AuditRecord& record) {
  const Actor& who = record.who;
  std::vector<Field> fields;
  const auto add = [&fields](std::string_view key, std::string_view journal, std::string_view value,
                             std::size_t most = kShort) {
    if (!value.empty()) fields.push_back({key, journal, presentable(value, most)});
  };
  add("verb", "MAPCAP_VERB", record.verb);
  add("verdict", "MAPCAP_VERDICT", to_string(record.verdict));
  add("name", "MAPCAP_NAME", record.name);
  add("user", "MAPCAP_USER", who.user);
  if (who.uid) add("uid", "MAPCAP_UID", std::to_string(*who.uid));
  if (who.pid > 0) add("pid", "MAPCAP_PID", std::to_string(who.pid));
  add("program", "MAPCAP_PROGRAM", who.program);
  add("endpoint", "MAPCAP_ENDPOINT", who.endpoint);
  if (who.peer_uid) add("peer_uid", "MAPCAP_PEER_UID", std::to_string(*who.peer_uid));
  add("maker", "MAPCAP_MAKER", who.maker);
  if (who.maker_uid) add("maker_uid", "MAPCAP_MAKER_UID", std::to_string(*who.maker_uid));
  add("unit", "MAPCAP_UNIT", who.unit);
  add("container", "MAPCAP_CONTAINER", who.container);
  add("cgroup", "MAPCAP_CGROUP", who.cgroup);
  add("rule", "MAPCAP_RULE", record.rule);
  if (record.times > 1) add("times", "MAPCAP_TIMES", std::to_string(record.times));
  add("left", "MAPCAP_LEFT", record.left, kSentence);
  add("why", "MAPCAP_WHY", record.why, kSentence);
  return fields;
}

bool plain(std::string_view value) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/:@+,";
  return value.find_first_not_of(kPlain) == std::string_view::npos;
}

std::string in_quotes(std::string_view value) {
  if (plain(value)) return std::string(value);
  std::string text = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + '"';
}

/// "alice: open bob/secret: denied (policy.toml:12), 3 times"
std::string sentence_of(const AuditRecord& record) {
  std::string text = (record.who.user.empty() ? "mapcapd" : record.who.user) + ": " + record.verb +
                     (record.name.empty() ? "" : " " + record.name) + ": " +
                     std::string(to_string(record.verdict));
  if (!record.rule.empty()) text += " (" + record.rule + ")";
  if (record.times > 1) text += ", " + std::to_string(record.times) + " times";
  return presentable(text, kSentence);
}

}  // namespace

std::string as_logfmt(const AuditRecord& record) {
  std::string line;
  for (const Field& field : fields_of(record)) {
    line.append(line.empty() ? "" : " ").append(field.key).append("=").append(in_quotes(field.value));
  }
  return line;
}

std::string as_journal_fields(const AuditRecord& record) {
  std::string text = "MESSAGE=" + sentence_of(record) + "\nMESSAGE_ID=" + kAuditMessageId +
                     "\nSYSLOG_IDENTIFIER=mapcapd\nPRIORITY=";
  text += record.verdict == Verdict::allowed ? SD_INFO[1] : SD_NOTICE[1];
  text += '\n';
  // presentable() has left no newline in a value, so that each fits one line.
  for (const Field& field : fields_of(record))
    text.append(field.journal).append("=").append(field.value).append("\n");
  return text;
}

}  // namespace mapcap::broker
