// Promise 15, until it is so: who can still write a region keeps it from being published, however he does it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <iterator>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/hostile_filesystem.h"
#include "tests/support/patience.h"
#include "tests/support/publish_harness.h"

namespace mapcap::test {
namespace {

using testing::HasSubstr;

TEST_P(PublishTest, NobodyWritesAPublishedRegion) {
  const Grant before = reader();
  EXPECT_FALSE(describe(before.fd())->published_unix);
  EXPECT_FALSE(client().show(kName).region.published_unix);
  ASSERT_EQ(publish(kPatience), "published");
  EXPECT_TRUE(describe(before.fd())->published_unix) << "a grant of before";
  expect_published();
  EXPECT_EQ(publish(kPatience), "published") << "once more changes nothing";
  EXPECT_EQ(client().list("root/**").at(0).published_unix, describe(before.fd())->published_unix);
}

TEST_P(PublishTest, AWriterKeepsItFromBeingPublishedAndIsNamed) {
  std::optional<Grant> open(writer());
  try {
    client().publish(kName);
    ADD_FAILURE() << "published under a writer";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::busy);
    EXPECT_THAT(error.what(), HasSubstr("user 0 has 1 writable grant"));
  }
  EXPECT_NO_THROW((void)writer()) << "a publish that failed gives back what it took";
  EXPECT_FALSE(describe(open->fd())->published_unix);
  open.reset();
  EXPECT_EQ(publish(kPatience), "published");
  expect_published();
}

TEST_P(PublishTest, AForkedWriterCounts) {
  std::optional<Grant> open(writer());
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  open.reset();
  EXPECT_EQ(publish(), "busy by grants");
  std::future<std::string> waiting = publish_meanwhile(kPatience);
  await_publish();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(waiting.get(), "published") << "its death during the wait";
  expect_published();
}

TEST_P(PublishTest, AMappingAloneCounts) {
  char* bytes = map(writer());
  ASSERT_NE(bytes, nullptr);
  EXPECT_EQ(publish(), "busy by grants");
  ::munmap(bytes, kSize);
  EXPECT_EQ(publish(kPatience), "published");
  expect_published();
}

TEST_P(PublishTest, AGrantInFlightCounts) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends.data()), 0);
  writer().send(ends[0]);
  EXPECT_EQ(publish(), "busy by grants") << "in no process at all";
  {
    const Grant passed = Grant::receive(ends[1]);
    EXPECT_EQ(publish(), "busy by grants") << "passed on";
  }
  EXPECT_EQ(publish(kPatience), "published");
  ::close(ends[0]);
  ::close(ends[1]);
  expect_published();
}

/// Pages that stay pinned when the mapping and the descriptor are gone.
TEST_P(PublishTest, AFixedBufferOfAnIoUringCounts) {
  io_uring ring{};
  ASSERT_EQ(io_uring_queue_init(4, &ring, 0), 0);
  {
    char* bytes = map(writer());
    ASSERT_NE(bytes, nullptr);
    const iovec pages{bytes, kSize};
    ASSERT_EQ(io_uring_register_buffers(&ring, &pages, 1), 0);
    ::munmap(bytes, kSize);
  }
  EXPECT_EQ(publish(), "busy by pins");
  std::future<std::string> waiting = publish_meanwhile(kPatience);
  await_publish();
  io_uring_queue_exit(&ring);
  EXPECT_EQ(waiting.get(), "published");
  expect_published();
}

TEST_P(PublishTest, PagesInAPipeCount) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  {
    char* bytes = map(writer());
    const iovec pages{bytes, 4096};
    ASSERT_EQ(::vmsplice(ends[1], &pages, 1, 0), 4096);
    ::munmap(bytes, kSize);
  }
  EXPECT_EQ(publish(), "busy by pins");
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_EQ(publish(kPatience), "published");
  expect_published();
}

/// A read past the page cache stores into pages whose mapping may be gone by then.
TEST_P(PublishTest, ADirectReadUnderWayCounts) {
  std::optional<HostileFilesystem> filesystem(std::in_place, 100, 64001U, [&](int file) {
    if (::fcntl(file, F_SETFL, O_DIRECT) != 0) return;
    char* bytes = map(broker_.connect().open(kName, Access::read_write));
    std::atomic<pid_t> reading{0};
    std::thread([&reading, file, bytes] {
      reading = ::gettid();
      (void)!::read(file, bytes, 4096);
    }).detach();
    while (reading == 0) std::this_thread::yield();
    const std::string task = "/proc/self/task/" + std::to_string(reading) + "/stat";
    (void)comes_true([&] {
      std::ifstream stat(task);
      const std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
      return text.find(") S ") != std::string::npos || text.find(") D ") != std::string::npos;
    });
    ::munmap(bytes, kSize);
  });
  if (!filesystem->mounted()) GTEST_SKIP() << "nothing can be mounted here";
  ASSERT_TRUE(filesystem->client_is_done());
  EXPECT_EQ(publish(), "busy by pins");
  filesystem.reset();
  EXPECT_EQ(publish(kPatience), "published");
  expect_published();
}

TEST_P(PublishTest, WhileItWaitsReadersComeAndNoWriter) {
  std::optional<Grant> open(writer());
  std::future<std::string> waiting = publish_meanwhile(kPatience);
  await_publish();
  const Grant meanwhile = reader();
  EXPECT_FALSE(describe(meanwhile.fd())->published_unix);
  open.reset();
  EXPECT_EQ(waiting.get(), "published");
  EXPECT_TRUE(describe(meanwhile.fd())->published_unix);
  expect_published();
}

TEST_P(PublishTest, WhoDoesNotWantToWaitEndsTheWaitOfOthers) {
  const Grant open = writer();
  std::future<std::string> waiting = publish_meanwhile(1h);
  await_publish();
  EXPECT_EQ(publish(), "busy by grants");
  ASSERT_EQ(waiting.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(waiting.get(), "busy by grants");
  EXPECT_NO_THROW((void)writer());
}

TEST_P(PublishTest, ARevokeEndsTheWait) {
  std::optional<Grant> open(writer());
  std::future<std::string> waiting = publish_meanwhile(1h);
  await_publish();
  client().revoke(kName);
  ASSERT_EQ(waiting.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(waiting.get(), "busy");
}

/// It waits for nobody who would hear of it.
TEST_P(PublishTest, WhoDiesWhileHeWaitsLeavesTheRegionAsItWas) {
  const Grant open = writer();
  const pid_t child = ::fork();
  if (child == 0) {
    (void)outcome([&] { broker_.connect().publish(kName, 1h); });
    ::_exit(0);
  }
  await_publish();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(comes_true([&] { return outcome([&] { (void)writer(); }) == "published"; })) << "still closed";
  EXPECT_FALSE(client().show(kName).region.published_unix);
}

TEST_P(PublishTest, OnlyTheOwnerPublishes) {
  const int status = as_user(64001, [&] {
    const std::string refused = outcome([&] { broker_.connect().publish(kName); });
    return refused == "denied" ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
}

TEST_P(PublishTest, AWriterOfAKeeperThatDiedCounts) {
  char* bytes = map(writer());
  const pid_t keeper = broker_.keeper_pid();
  broker_.kill_keeper();
  ASSERT_TRUE(comes_true([&] { return broker_.keeper_pid() != keeper && broker_.keeper_pid() != 0; }));
  EXPECT_EQ(publish(), "busy by writers");
  std::future<std::string> waiting = publish_meanwhile(kPatience);
  await_publish();
  ::munmap(bytes, kSize);
  EXPECT_EQ(waiting.get(), "published");
  expect_published();
}

TEST_P(PublishTest, ABrokerThatDiesDuringTheWaitIsAskedAgain) {
  std::optional<Grant> open(writer());
  std::future<std::string> waiting = publish_meanwhile(kPatience);
  await_publish();
  broker_.kill_broker();
  broker_.start();
  await_publish();
  open.reset();
  EXPECT_EQ(waiting.get(), "published");
  expect_published();
}

INSTANTIATE_TEST_SUITE_P(Revocable, PublishTest, testing::Values(SealKind::revocable));
INSTANTIATE_TEST_SUITE_P(Sealed, PublishTest, testing::Values(SealKind::sealed));

}  // namespace
}  // namespace mapcap::test
