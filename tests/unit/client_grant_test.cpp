// Grants that come from elsewhere: adopted, sent by another process, inherited.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cstdlib>

#include "mapcap/mapcap.h"
#include "schema/channel.h"
#include "tests/unit/client_grant_test_support.h"

namespace mapcap {
namespace {

TEST(GrantAdopt, AMemfdHasItsSizeAndIsVolatile) {
  const Grant grant = Grant::adopt(memfd(8192));
  EXPECT_EQ(grant.size(), 8192U);
  EXPECT_EQ(grant.rights(), Access::read_write);
  EXPECT_EQ(grant.info().durability.granularity, Granularity::none);
}

TEST(GrantAdopt, WhatCannotBeMappedIsInvalid) {
  const Fd fd = memfd();
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  EXPECT_EQ(code_of([&] { Grant::adopt(Fd(::open(path.c_str(), O_PATH | O_CLOEXEC))); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { Grant::adopt(Fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC))); }),
            ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { Grant::adopt(memfd(0)); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { Grant::adopt(Fd(-1)); }), ErrorCode::io);
}

TEST(GrantDescribe, AFileWithoutAttributesDescribesNothing) {
  EXPECT_FALSE(describe(memfd().get()).has_value());
  EXPECT_EQ(code_of([] { describe(-1); }), ErrorCode::io);
}

TEST(GrantSend, AGrantArrivesWithItsRights) {
  auto ends = schema::socket_pair();
  ASSERT_TRUE(ends.has_value());
  const Grant sent = Grant::adopt(memfd());
  Mapping(sent).writable()[7] = std::byte{7};
  sent.send(ends.value().first.get());
  const Grant received = Grant::receive(ends.value().second.get());
  EXPECT_EQ(received.rights(), Access::read_write);
  EXPECT_EQ(Mapping(received).bytes()[7], std::byte{7});
}

TEST(GrantSend, TwoDescriptorsAreNoGrantAndNeitherStaysOpen) {
  auto ends = schema::socket_pair();
  ASSERT_TRUE(ends.has_value());
  const Fd fd = memfd();
  const std::array<std::byte, 1> byte{};
  const std::array<BorrowedFd, 2> two{BorrowedFd(fd.get()), BorrowedFd(fd.get())};
  ASSERT_TRUE(schema::send(ends.value().first.borrow(), byte, two).has_value());
  const Fd next(::dup(fd.get()));
  EXPECT_EQ(code_of([&] { Grant::receive(ends.value().second.get()); }), ErrorCode::malformed);
  const Fd after(::dup(fd.get()));
  EXPECT_EQ(after.get(), next.get() + 1) << "a descriptor was left behind";
}

TEST(GrantSend, AClosedPeerIsUnavailable) {
  auto ends = schema::socket_pair();
  ASSERT_TRUE(ends.has_value());
  ends.value().first.reset();
  EXPECT_EQ(code_of([&] { Grant::receive(ends.value().second.get()); }), ErrorCode::unavailable);
}

// ---- inherited

// Runs `check` in a child that was started as `mapcap run` starts programs; it returns 0 when all is well.
template <typename Check>
int in_started_child(const char* names, int count, bool right_pid, Check check) {
  const Fd fd = memfd(8192);
  const pid_t child = ::fork();
  if (child == 0) {
    for (int i = 0; i < count; ++i) ::dup2(fd.get(), 3 + i);
    ::setenv("LISTEN_PID", std::to_string(right_pid ? ::getpid() : ::getpid() + 1).c_str(), 1);
    ::setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
    ::setenv("LISTEN_FDNAMES", names, 1);
    int code = 100;
    try {
      code = check();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(InheritedGrants, AreFoundByNameAndByLastComponentAndTakenOnce) {
  EXPECT_EQ(in_started_child("alice/in:alice/out", 2, true,
                             [] {
                               if (inherited().size() != 2) return 1;
                               const Grant out = inherited("alice/out");
                               if (out.fd() != 4 || out.size() != 8192) return 2;
                               const Grant in = inherited("in");
                               if (in.fd() != 3) return 3;
                               try {
                                 inherited("in");
                               } catch (const Error& error) {
                                 return error.code() == ErrorCode::not_found ? 0 : 4;
                               }
                               return 5;
                             }),
            0);
}

TEST(InheritedGrants, AnAmbiguousLastComponentIsNotGuessed) {
  EXPECT_EQ(in_started_child("alice/x:bob/x", 2, true,
                             [] {
                               try {
                                 inherited("x");
                               } catch (const Error& error) {
                                 return error.code() == ErrorCode::not_found ? 0 : 1;
                               }
                               return 2;
                             }),
            0);
}

TEST(InheritedGrants, OfAnotherProcessAreNotOurs) {
  EXPECT_EQ(in_started_child("alice/x", 1, false, [] { return inherited().empty() ? 0 : 1; }), 0);
}

}  // namespace
}  // namespace mapcap
