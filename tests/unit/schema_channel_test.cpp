// One packet and its descriptors; and who closes what.
#include "schema/channel.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace mapcap::schema {
namespace {

using testing::HasSubstr;

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}
std::size_t open_fds() {
  const auto entries = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}
Fd some_fd() {
  return Fd(::memfd_create("test", MFD_CLOEXEC));
}
std::vector<std::byte> bytes_of(std::size_t size) {
  return std::vector<std::byte>(size, std::byte{0x5a});
}

class Channel : public testing::Test {
 protected:
  Channel() {
    auto pair = socket_pair();
    EXPECT_TRUE(pair);
    near_ = std::move(pair.value().first);
    far_ = std::move(pair.value().second);
  }
  Result<std::variant<Incoming, Wait>> receive_far(std::size_t max_bytes, std::size_t max_fds) {
    return receive(far_.borrow(), max_bytes, max_fds);
  }
  bool send_near(std::span<const std::byte> bytes, std::span<const BorrowedFd> fds = {}) {
    const Result<bool> sent = send(near_.borrow(), bytes, fds);
    return sent && sent.value();
  }
  Fd near_;
  Fd far_;
};

TEST_F(Channel, APacketArrivesWhole) {
  ASSERT_TRUE(send_near(bytes_of(100)));
  ASSERT_TRUE(send_near(bytes_of(8)));
  auto first = receive_far(4096, 0);
  ASSERT_TRUE(first);
  EXPECT_EQ(std::get<Incoming>(first.value()).bytes, bytes_of(100));
  EXPECT_FALSE(std::get<Incoming>(first.value()).dropped_fds);
  EXPECT_EQ(std::get<Incoming>(receive_far(4096, 0).value()).bytes.size(), 8U);
}

TEST_F(Channel, NothingThereWouldBlock) {
  const auto result = receive_far(4096, 0);
  ASSERT_TRUE(result);
  EXPECT_EQ(std::get<Wait>(result.value()), Wait::would_block);
}

TEST_F(Channel, AClosedPeerIsClosed) {
  near_.reset();
  EXPECT_EQ(std::get<Wait>(receive_far(4096, 0).value()), Wait::closed);
}

TEST_F(Channel, WhatAPeerSentBeforeItClosedArrivesEvenIfItHadNotReadEverything) {
  ASSERT_TRUE(send_near(bytes_of(100)));
  ASSERT_TRUE(send(far_.borrow(), bytes_of(8)));
  near_.reset();
  auto last_words = receive_far(4096, 0);
  ASSERT_TRUE(last_words);
  ASSERT_TRUE(std::holds_alternative<Incoming>(last_words.value()));
  EXPECT_EQ(std::get<Incoming>(last_words.value()).bytes, bytes_of(100));
  EXPECT_EQ(std::get<Wait>(receive_far(4096, 0).value()), Wait::closed);
}

TEST_F(Channel, APacketOfNoBytesIsClosedWhateverItCarries) {
  const Fd fd = some_fd();
  const std::size_t before = open_fds();
  iovec nothing{nullptr, 0};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &nothing;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* part = CMSG_FIRSTHDR(&header);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof(int));
  const int number = fd.get();
  std::memcpy(CMSG_DATA(part), &number, sizeof number);
  ASSERT_EQ(::sendmsg(near_.get(), &header, 0), 0);
  EXPECT_EQ(std::get<Wait>(receive_far(4096, 1).value()), Wait::closed);
  EXPECT_EQ(open_fds(), before);
}

TEST_F(Channel, AnEmptyPacketIsNotSent) {
  const auto sent = send(near_.borrow(), {});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ErrorCode::invalid);
}

TEST_F(Channel, APacketOfExactlyTheLimitArrivesAndALongerOneIsMalformed) {
  ASSERT_TRUE(send_near(bytes_of(4096)));
  ASSERT_TRUE(send_near(bytes_of(4097)));
  EXPECT_EQ(std::get<Incoming>(receive_far(4096, 0).value()).bytes.size(), 4096U);
  const auto longer = receive_far(4096, 0);
  ASSERT_FALSE(longer);
  EXPECT_EQ(longer.error().code, ErrorCode::malformed);
  EXPECT_THAT(longer.error().sentence, HasSubstr("longer than the 4096 bytes"));
}

// Promise 12: a client cannot fill the broker's descriptor table.
TEST_F(Channel, UnwantedDescriptorsAreNeverInstalled) {
  const Fd fd = some_fd();
  const std::vector<BorrowedFd> many(kMaxFdsPerPacket, fd.borrow());
  ASSERT_TRUE(send_near(bytes_of(8), many));
  const std::size_t before = open_fds();
  auto result = receive_far(4096, 0);
  EXPECT_EQ(open_fds(), before);
  ASSERT_TRUE(result);
  EXPECT_TRUE(std::get<Incoming>(result.value()).dropped_fds);
  EXPECT_TRUE(std::get<Incoming>(result.value()).fds.empty());
}

TEST_F(Channel, WantedDescriptorsArriveCloexecAndInOrder) {
  const Fd first = some_fd();
  const Fd second = some_fd();
  ASSERT_EQ(::ftruncate(second.get(), 77), 0);
  const std::array<BorrowedFd, 2> fds{first.borrow(), second.borrow()};
  ASSERT_TRUE(send_near(bytes_of(8), fds));
  auto result = receive_far(4096, 2);
  ASSERT_TRUE(result);
  const Incoming& packet = std::get<Incoming>(result.value());
  ASSERT_EQ(packet.fds.size(), 2U);
  for (const Fd& fd : packet.fds) EXPECT_EQ(::fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  struct stat status {};
  ASSERT_EQ(::fstat(packet.fds[1].get(), &status), 0);
  EXPECT_EQ(status.st_size, 77);
  EXPECT_TRUE(is_open(first.get()));  // a send keeps the sender's own
}

// CMSG_SPACE(sizeof(int)) holds two: one too many is found out by counting, several by MSG_CTRUNC.
TEST_F(Channel, MoreDescriptorsThanWantedAreMalformedAndAllClosed) {
  const Fd fd = some_fd();
  for (const std::size_t sent : {2U, 3U, 253U}) {
    const std::vector<BorrowedFd> fds(sent, fd.borrow());
    ASSERT_TRUE(send_near(bytes_of(8), fds));
    const std::size_t before = open_fds();
    const auto result = receive_far(4096, 1);
    ASSERT_FALSE(result) << sent;
    EXPECT_EQ(result.error().code, ErrorCode::malformed);
    EXPECT_EQ(open_fds(), before);
  }
}

TEST_F(Channel, TheMostDescriptorsOfAPacketArriveAndOneMoreIsInvalid) {
  const Fd fd = some_fd();
  std::vector<BorrowedFd> fds(kMaxFdsPerPacket, fd.borrow());
  ASSERT_TRUE(send_near(bytes_of(8), fds));
  const auto received = receive_far(4096, kMaxFdsPerPacket);
  ASSERT_TRUE(received);
  EXPECT_EQ(std::get<Incoming>(received.value()).fds.size(), kMaxFdsPerPacket);
  fds.push_back(fd.borrow());
  EXPECT_EQ(send(near_.borrow(), bytes_of(8), fds).error().code, ErrorCode::invalid);
}

TEST_F(Channel, ADescriptorThatFindsNoNumberIsExhausted) {
  const Fd fd = some_fd();
  const std::array<BorrowedFd, 1> fds{fd.borrow()};
  ASSERT_TRUE(send_near(bytes_of(8), fds));
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit none{0, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto result = receive_far(4096, 1);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::exhausted);
  EXPECT_THAT(result.error().sentence, HasSubstr("RLIMIT_NOFILE"));
}

TEST_F(Channel, AFullQueueSaysFalseAndLosesNothing) {
  std::size_t sent = 0;
  while (send_near(bytes_of(4096))) ++sent;
  ASSERT_GT(sent, 0U);
  const auto full = send(near_.borrow(), bytes_of(4096));
  ASSERT_TRUE(full);
  EXPECT_FALSE(full.value());
  for (std::size_t i = 0; i < sent; ++i)
    ASSERT_TRUE(std::holds_alternative<Incoming>(receive_far(4096, 0).value()));
  EXPECT_EQ(std::get<Wait>(receive_far(4096, 0).value()), Wait::would_block);
}

TEST_F(Channel, ASendToAClosedPeerIsAnErrorAndNoSignal) {
  far_.reset();
  const auto sent = send(near_.borrow(), bytes_of(8));
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ErrorCode::io);
  EXPECT_EQ(sent.error().details.at(0), (Detail{"errno", std::to_string(EPIPE)}));
}

// ---- connect

std::string path_for(const char* name) {
  return testing::TempDir() + "mapcap-" + std::to_string(::getpid()) + "-" + name;
}
Fd listen_at(const std::string& path, int type, int backlog) {
  Fd listener(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  EXPECT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(listener.get(), backlog), 0);
  return listener;
}

TEST(Connect, GivesACloexecNonBlockingSocket) {
  const std::string path = path_for("connect");
  const Fd listener = listen_at(path, SOCK_SEQPACKET, 1);
  const auto socket = connect_to(path);
  ::unlink(path.c_str());
  ASSERT_TRUE(socket) << socket.error().sentence;
  EXPECT_EQ(::fcntl(socket.value().get(), F_GETFD), FD_CLOEXEC);
  EXPECT_NE(::fcntl(socket.value().get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(Connect, WhereNobodyListensIsUnavailableAndSaysWhatToDo) {
  const std::string path = path_for("stale");
  { const Fd listener = listen_at(path, SOCK_SEQPACKET, 1); }
  for (const std::string& where : {path, std::string("/nonexistent/socket")}) {
    const auto socket = connect_to(where);
    ASSERT_FALSE(socket);
    EXPECT_EQ(socket.error().code, ErrorCode::unavailable);
    EXPECT_THAT(socket.error().sentence, HasSubstr("start mapcapd"));
    EXPECT_THAT(socket.error().sentence, HasSubstr(where));
  }
  // As in a container that has the socket of a broker of before.
  EXPECT_THAT(connect_to(path).error().sentence, HasSubstr("the socket's directory mounted"));
  ::unlink(path.c_str());
}

TEST(Connect, ToASocketOfAnotherKindIsUnavailable) {
  const std::string path = path_for("stream");
  const Fd listener = listen_at(path, SOCK_STREAM, 1);
  EXPECT_EQ(connect_to(path).error().code, ErrorCode::unavailable);
  ::unlink(path.c_str());
}

TEST(Connect, APathThatFitsNoSocketAddressIsInvalid) {
  for (const std::string& path : {std::string(), std::string(108, 'a'), std::string("a\0b", 3)}) {
    EXPECT_EQ(connect_to(path).error().code, ErrorCode::invalid);
  }
  EXPECT_EQ(connect_to(std::string(107, 'a')).error().code, ErrorCode::unavailable);
}

// ---- descriptors

TEST(Fd, ClosesWhatItOwns) {
  int number = -1;
  {
    const Fd fd = some_fd();
    number = fd.get();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(Fd, AMoveLeavesTheSourceEmptyAndClosesNothing) {
  Fd source = some_fd();
  const int number = source.get();
  const Fd target(std::move(source));
  EXPECT_FALSE(source.valid());  // NOLINT(bugprone-use-after-move): what is tested
  EXPECT_EQ(target.get(), number);
  EXPECT_TRUE(is_open(number));
}

TEST(Fd, AMoveAssignmentClosesTheOldOne) {
  Fd target = some_fd();
  Fd source = some_fd();
  const int old = target.get();
  const int taken = source.get();
  target = std::move(source);
  EXPECT_FALSE(is_open(old));
  EXPECT_EQ(target.get(), taken);
  EXPECT_TRUE(is_open(taken));
}

TEST(Fd, AnAssignmentToItselfKeepsIt) {
  Fd fd = some_fd();
  Fd& same = fd;
  fd = std::move(same);
  EXPECT_TRUE(is_open(fd.get()));
}

TEST(Fd, AReleasedOneIsTheCallers) {
  Fd fd = some_fd();
  const int number = fd.release();
  EXPECT_FALSE(fd.valid());
  EXPECT_TRUE(is_open(number));
  ::close(number);
}

}  // namespace
}  // namespace mapcap::schema
