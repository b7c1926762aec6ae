// A medium that refuses changes is told of once, and once more when it takes them again.
#include <gtest/gtest.h>

#include <cerrno>

#include "broker/ledger/health.h"

namespace mapcap::broker::ledger {
namespace {

Result<void> full() {
  return io_error("growing the ledger", ENOSPC);
}

struct Told {
  int trouble = 0;
  int over = 0;
};

TEST(LedgerHealth, TroubleIsToldOnceAndItsEndOnce) {
  Told told;
  Health health;
  health.tell([&](const Failure* error) { ++(error != nullptr ? told.trouble : told.over); });
  health.changed(1, ok());
  EXPECT_FALSE(health.trouble());
  health.changed(2, full());
  health.changed(3, full());
  EXPECT_EQ(told.trouble, 1);
  ASSERT_TRUE(health.trouble());
  EXPECT_NE(health.trouble()->sentence.find("No space left"), std::string::npos);
  health.changed(1, ok());
  EXPECT_TRUE(health.trouble()) << "a change in place needed no room";
  health.changed(4, ok());
  EXPECT_FALSE(health.trouble());
  EXPECT_EQ(told.over, 1);
  health.changed(5, full());
  EXPECT_EQ(told.trouble, 2);
}

TEST(LedgerHealth, TheSameRecordTakenIsTheEndToo) {
  Health health;
  health.changed(7, full());
  health.changed(7, ok());
  EXPECT_FALSE(health.trouble());
}

TEST(LedgerHealth, WhatTheCallerDidWrongIsNoTroubleOfTheMedium) {
  Health health;
  health.changed(1, failure(ErrorCode::invalid, "no such thing"));
  EXPECT_FALSE(health.trouble());
}

}  // namespace
}  // namespace mapcap::broker::ledger
