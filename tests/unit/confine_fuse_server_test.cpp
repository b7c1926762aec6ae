// What the keeper answers, request by request: the kernel's part is played through a socket pair.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "tests/unit/fuse_server_test_support.h"

namespace mapcap::broker::keeper {
namespace {

TEST_F(FuseServerTest, IssuingThreadOpensPassthroughWithDirectIo) {
  page_.let_open(opening());
  const Answer opened = ask(FUSE_TMPFILE, FUSE_ROOT_ID, {});
  struct Both {
    fuse_entry_out entry;
    fuse::OpenOut open;
  };
  const auto out = opened.as<Both>();
  EXPECT_EQ(out.entry.nodeid, kGrant);
  EXPECT_EQ(out.entry.attr.size, 8192U);
  EXPECT_EQ(out.entry.attr.mode, 0100600U);
  EXPECT_EQ(out.entry.attr.uid, 0U);
  EXPECT_EQ(out.open.backing_id, 9);
  EXPECT_EQ(out.open.open_flags, fuse::kDirectIo | fuse::kOpenPassthrough | fuse::kNoFlush);
  EXPECT_EQ(server_.nodes().at(kGrant).region, RegionId{5});
}

// Promise 1: uid and thread id, and only while the slot is open.
TEST_F(FuseServerTest, NobodyElseOpens) {
  EXPECT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {}).error, EPERM) << "no slot is open";
  page_.let_open(opening());
  EXPECT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {1000, Caller{}.tid}).error, EPERM) << "a recycled thread id";
  EXPECT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {0, Caller{}.tid + 1}).error, EPERM) << "another process of root";
  EXPECT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {0, 0}).error, EPERM) << "a thread of another pid namespace";
  EXPECT_TRUE(server_.nodes().empty());
}

// Promise 2
TEST_F(FuseServerTest, IssuingThreadReopensItsOwnNodeReadOnlyAndNothingElse) {
  issue();
  fuse_open_in read{};
  read.flags = O_RDONLY;
  fuse_open_in write{};
  write.flags = O_RDWR;
  EXPECT_EQ(ask(FUSE_OPEN, kGrant, {}, body_of(read)).error, EPERM) << "the slot is closed";
  page_.let_open(opening(kGrant + 1));
  EXPECT_EQ(ask(FUSE_OPEN, kGrant, {}, body_of(read)).error, EPERM) << "another grant's slot";
  page_.let_open(opening());
  EXPECT_EQ(ask(FUSE_OPEN, kGrant, {}, body_of(write)).error, EPERM);
  EXPECT_EQ(ask(FUSE_OPEN, kGrant, stranger(), body_of(read)).error, EPERM);
  EXPECT_EQ(ask(FUSE_OPEN, kGrant, {}).error, EPERM) << "a request that ends early";
  EXPECT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {}).error, EPERM) << "the grant exists";
  const Answer opened = ask(FUSE_OPEN, kGrant, {}, body_of(read));
  EXPECT_EQ(opened.error, 0);
  EXPECT_EQ(opened.as<fuse::OpenOut>().backing_id, 9);
}

TEST_F(FuseServerTest, EveryOtherRequestIsRefused) {
  issue();
  for (std::uint32_t opcode = 1; opcode < 100; ++opcode) {
    switch (opcode) {
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        EXPECT_FALSE(ask(opcode, kGrant, stranger()).any) << opcode;
        break;
      case FUSE_GETATTR:
      case FUSE_STATFS:
      case FUSE_RELEASE:
      case FUSE_RELEASEDIR:
      case FUSE_DESTROY:
      case FUSE_LISTXATTR:
        EXPECT_EQ(ask(opcode, kGrant, stranger()).error, 0) << opcode;
        break;
      case FUSE_GETXATTR:
        EXPECT_EQ(ask(opcode, kGrant, stranger()).error, ENODATA);
        break;
      case FUSE_POLL:
      case FUSE_LSEEK:
      case FUSE_SETXATTR:
      case FUSE_REMOVEXATTR:
      case FUSE_FLUSH:
      case fuse::kStatxOpcode:
        EXPECT_EQ(ask(opcode, kGrant, stranger()).error, ENOSYS) << opcode;
        break;
      default:
        EXPECT_EQ(ask(opcode, kGrant, stranger()).error, EPERM) << opcode;
    }
  }
}

TEST_F(FuseServerTest, GrantIsReleasedWhenAllItsLookupsAreForgotten) {
  issue();
  ask(FUSE_FORGET, kGrant, {}, body_of(fuse_forget_in{1}));
  EXPECT_EQ(server_.take_released(), std::vector<confine::GrantId>{kGrant});
  EXPECT_TRUE(server_.nodes().empty());
  ask(FUSE_FORGET, kGrant, {}, body_of(fuse_forget_in{1}));
  EXPECT_TRUE(server_.take_released().empty()) << "once";
  EXPECT_EQ(server_.last_grant(), kGrant) << "an id is never used again";
}

TEST_F(FuseServerTest, BatchThatEndsEarlyForgetsWhatItNames) {
  issue();
  wire::Bytes batch = body_of(fuse_batch_forget_in{3, 0});
  wire::append(batch, fuse_forget_one{kGrant, 1});
  ask(FUSE_BATCH_FORGET, 0, {}, batch);
  EXPECT_EQ(server_.take_released(), std::vector<confine::GrantId>{kGrant});
}

TEST_F(FuseServerTest, AttributeNamesNeedNoNulAndUnknownOnesAreAbsent) {
  issue();
  const fuse_getxattr_in room{.size = 64, .padding = 0};
  EXPECT_EQ(ask(FUSE_GETXATTR, kGrant, stranger(), body_of(room, "system.mapcap.size")).text(), "8192");
  EXPECT_EQ(
      ask(FUSE_GETXATTR, kGrant, stranger(), body_of(room, std::string_view("system.mapcap.name\0x", 20)))
          .text(),
      "bob/x");
  EXPECT_EQ(ask(FUSE_GETXATTR, kGrant, stranger(), body_of(room, "system.mapcap.nam")).error, ENODATA);
  EXPECT_EQ(ask(FUSE_GETXATTR, kGrant, stranger(), body_of(room)).error, ENODATA);
  EXPECT_EQ(ask(FUSE_GETXATTR, kGrant + 7, stranger(), body_of(room, "system.mapcap.size")).error, ENODATA);
}

// Promise 15
TEST_F(FuseServerTest, GrantsSayThatTheirRegionIsPublishedFromThenOn) {
  const fuse_getxattr_in room{.size = 64, .padding = 0};
  const auto told = [&](confine::GrantId grant) {
    return ask(FUSE_GETXATTR, grant, stranger(), body_of(room, "system.mapcap.published")).text();
  };
  const auto open = [&](confine::GrantId grant, std::int64_t published) {
    Opening what = opening(grant);
    what.published_unix_ns = published;
    page_.let_open(what);
    EXPECT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {}).error, 0);
    page_.clear();
  };
  server_.published(RegionId{5}, 77);  // Nobody has a grant of it: whoever gets one is told with it.
  open(kGrant, 0);
  EXPECT_EQ(told(kGrant), "no");
  server_.published(RegionId{6}, 77);
  EXPECT_EQ(told(kGrant), "no") << "another region";
  server_.published(RegionId{5}, 77);
  EXPECT_EQ(told(kGrant), "77");
  open(kGrant + 1, 77);
  EXPECT_EQ(told(kGrant + 1), "77");
  open(kGrant + 2, 0);
  EXPECT_EQ(told(kGrant + 2), "77") << "nothing unpublishes";
  for (const confine::GrantId grant : {kGrant, kGrant + 1, kGrant + 2})
    ask(FUSE_FORGET, grant, {}, body_of(fuse_forget_in{1}));
  open(kGrant + 3, 0);
  EXPECT_EQ(told(kGrant + 3), "no") << "an id is never another region's, but nothing is kept without grants";
}

TEST_F(FuseServerTest, FloodersAnswerIsHeldBackAndThenGiven) {
  issue();
  for (int i = 0; i < Throttle::kBurst; ++i) ASSERT_TRUE(ask(FUSE_READ, kGrant, stranger()).any) << i;
  ASSERT_FALSE(ask(FUSE_READ, kGrant, stranger()).any);
  ASSERT_TRUE(server_.next_due());
  const FuseServer::Time due = *server_.next_due();
  EXPECT_GT(due, now_);
  server_.answer_held(due - FuseServer::Time(1));
  EXPECT_FALSE(answer().any);
  server_.answer_held(due);
  const Answer late = answer();
  EXPECT_TRUE(late.any);
  EXPECT_EQ(late.error, EPERM);
  // Meanwhile the issuing thread does not wait.
  page_.let_open(opening(kGrant + 1));
  EXPECT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {}).error, 0);
}

TEST_F(FuseServerTest, TheUidsThatAUserWasLentShareHisRate) {
  const policy::Subordinates lent = policy::Subordinates::parse("1000:100000:65536\n", policy::Accounts{});
  FuseServer server(ends_.second.borrow(), page_, lent);
  const auto held = [&](std::uint32_t uid) {
    fuse_in_header header{};
    header.len = sizeof header;
    header.opcode = FUSE_READ;
    header.unique = ++unique_;
    header.nodeid = kGrant;
    header.uid = uid;
    header.pid = stranger().tid;
    EXPECT_EQ(::send(ends_.first.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
    EXPECT_EQ(server.serve(2, now_), FuseServer::Served::drained);
    return !answer().any;
  };
  for (int i = 0; i < Throttle::kBurst; ++i)
    ASSERT_FALSE(held(i % 2 == 0 ? 1000 : 100'000 + static_cast<std::uint32_t>(i))) << i;
  EXPECT_TRUE(held(1000));
  EXPECT_TRUE(held(165'535));
  EXPECT_FALSE(held(165'536)) << "nobody lent it to him";
  EXPECT_FALSE(held(1001));
}

TEST_F(FuseServerTest, AnswerThatNobodyTakesMakesNoNode) {
  page_.let_open(opening());
  fuse_in_header header{};
  header.len = sizeof header;
  header.opcode = FUSE_TMPFILE;
  header.nodeid = FUSE_ROOT_ID;
  header.pid = static_cast<std::uint32_t>(::gettid());
  ASSERT_EQ(::send(ends_.first.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
  ::shutdown(ends_.first.get(), SHUT_RD);  // The kernel's ENOENT for a caller that was interrupted.
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, nullptr);
  server_.serve(1, now_);
  EXPECT_TRUE(server_.nodes().empty());
}

TEST_F(FuseServerTest, GrantsOfARegionShareOneLabel) {
  for (confine::GrantId grant = kGrant; grant < kGrant + 3; ++grant) {
    page_.let_open(opening(grant, grant == kGrant ? Access::read_only : Access::read_write));
    ASSERT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {}).error, 0);
  }
  EXPECT_EQ(server_.nodes().at(kGrant).label.use_count(), 3);
}

TEST(Label, TooLongTextsAreRefused) {
  confine::Label label;
  label.name = std::string(255, 'a');
  ASSERT_TRUE(encode_label(label));
  EXPECT_TRUE(valid_label(encode_label(label).value()));
  label.name.push_back('a');
  ASSERT_FALSE(encode_label(label));
  EXPECT_EQ(encode_label(label).error().code, ErrorCode::invalid);
}

TEST(Label, EveryTruncationIsInvalid) {
  const std::string blob =
      encode_label({"n", {1}, Access::read_only, "wb", "wb", "none", "clone", 0}).value();
  for (std::size_t length = 0; length < blob.size(); ++length) {
    EXPECT_FALSE(valid_label(std::string_view(blob).substr(0, length))) << length;
  }
  EXPECT_FALSE(valid_label(blob + "x"));
}

}  // namespace
}  // namespace mapcap::broker::keeper
