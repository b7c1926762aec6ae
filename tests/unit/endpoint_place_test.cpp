#include <gtest/gtest.h>

#include "broker/door/endpoint_directory.h"

namespace mapcap::broker {
namespace {

TEST(EndpointPlace, IsAnIdOrAUsersId) {
  for (const char* good : {"readers", "@0/readers", "@1000/a", "@4294967295/x-1"})
    EXPECT_TRUE(check_place(good)) << good;
  for (const char* bad : {"", ".", "..", "@", "@1000", "@1000/", "@/a", "@x/a", "1000/a", "@1000/../a",
                          "@1000/a/b", "../a", "@-1/a", "/a", "@12345678901/a"})
    EXPECT_FALSE(check_place(bad)) << bad;
}

}  // namespace
}  // namespace mapcap::broker
