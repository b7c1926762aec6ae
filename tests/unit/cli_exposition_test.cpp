// The text format that Prometheus reads.
#include "client/cli/exposition.h"

#include <gtest/gtest.h>

namespace mapcap::cli {
namespace {

TEST(Exposition, AFamilyIsIntroducedOnceAndLabelsAreEscaped) {
  Exposition out;
  out.family("mapcap_empty", "Nothing.");
  out.family("mapcap_pool_used_bytes", "Bytes.");
  out.sample({{"pool", "a\"b\\c\nd"}, {"state", "live"}}, 7);
  out.sample({}, 8);
  EXPECT_EQ(out.text(),
            "# HELP mapcap_pool_used_bytes Bytes.\n"
            "# TYPE mapcap_pool_used_bytes gauge\n"
            "mapcap_pool_used_bytes{pool=\"a\\\"b\\\\c\\nd\",state=\"live\"} 7\n"
            "mapcap_pool_used_bytes 8\n");
  EXPECT_EQ(
      out.json(),
      "[{\"name\":\"mapcap_pool_used_bytes\",\"labels\":{\"pool\":\"a\\\"b\\\\c\\nd\",\"state\":\"live\"},"
      "\"value\":7},{\"name\":\"mapcap_pool_used_bytes\",\"labels\":{},\"value\":8}]\n");
}

}  // namespace
}  // namespace mapcap::cli
