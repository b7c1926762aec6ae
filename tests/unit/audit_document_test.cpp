// docs/audit.md promises a record of each verb that leaves one, by name.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "broker/door/audited.h"
#include "tests/unit/schema_examples.h"

namespace mapcap::broker {
namespace {

/// The rows of "Which there are", by what they say of when.
std::set<std::string> verbs_of_row(const std::string& text, const std::string& when) {
  const std::size_t end = text.find("| " + when);
  if (end == std::string::npos) return {};
  const std::string row = text.substr(text.rfind("\n|", end) + 1, end - text.rfind("\n|", end));
  std::set<std::string> verbs;
  for (std::size_t at = row.find('`'); at != std::string::npos; at = row.find('`', at + 1)) {
    const std::size_t close = row.find('`', at + 1);
    verbs.insert(row.substr(at + 1, close - at - 1));
    at = close;
  }
  return verbs;
}

TEST(AuditDocument, NamesEveryVerbThatLeavesARecord) {
  std::ifstream file(MAPCAP_AUDIT_DOCUMENT);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::set<std::string> always = verbs_of_row(text, "always, whatever becomes of it");
  const std::set<std::string> when_refused = verbs_of_row(text, "when it is refused");
  ASSERT_TRUE(always.contains("create"));
  ASSERT_TRUE(when_refused.contains("list"));
  for (const schema::Request& request : schema::examples::all_requests()) {
    const std::optional<Audited> record = audited(request.body);
    if (!record) continue;
    EXPECT_TRUE(always.contains(record->verb) || (!record->always && when_refused.contains(record->verb)))
        << record->verb;
  }
}

}  // namespace
}  // namespace mapcap::broker
