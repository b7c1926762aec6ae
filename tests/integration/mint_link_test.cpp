// A mint without a broker: what it answers, what it refuses, and how it is replaced.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/fd_path.h"
#include "broker/confine/lsm/lsm.h"
#include "broker/keeper/fuse/mount.h"
#include "broker/mint/forge.h"
#include "broker/mint/link.h"
#include "broker/mint/names.h"
#include "policy/accounts.h"
#include "policy/load/loader.h"
#include "schema/channel.h"
#include "tests/support/patience.h"

namespace mapcap::broker::mint {
namespace {

using test::comes_true;
using testing::HasSubstr;
using wire::Kind;

class MintLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: a mint keeps CAP_SYS_ADMIN";
    Result<std::unique_ptr<Link>> started = Link::start({"", "/run/mapcap/mapcap.sock", "/var/lib/mapcap"});
    ASSERT_TRUE(started) << started.error().sentence;
    link = std::move(started.value());
  }

  ErrorCode refused(Kind kind, std::uint64_t number, const std::string& text,
                    std::vector<BorrowedFd> fds = {}) {
    const Result<Link::Heard> heard = link->ask(kind, number, text, fds);
    return heard ? ErrorCode{} : heard.error().code;
  }

  std::unique_ptr<Link> link;
};

TEST_F(MintLinkTest, FindsTheNamesThatTheMachineHas) {
  const std::unique_ptr<policy::NameService> names = make_names(*link);
  const auto root = names->account(0U);
  ASSERT_TRUE(root);
  EXPECT_EQ(root->name, policy::find_account(0U)->name);
  EXPECT_EQ(names->account(root->name)->uid, 0U);
  EXPECT_EQ(names->groups_of(*root), policy::groups_of(*root));
  EXPECT_EQ(names->group(0U)->name, policy::find_group(0U)->name);
  EXPECT_EQ(names->group(names->group(0U)->name)->gid, 0U);
  EXPECT_FALSE(names->account("nobody-has-this-name"));
  EXPECT_FALSE(names->account(4'000'000'123U));
  EXPECT_FALSE(names->group("nobody-has-this-name"));
  EXPECT_FALSE(names->account(std::string(300, 'x'))) << "longer than a message has room for";
  EXPECT_EQ(names->subuid_text(), policy::subuid_text());
  const Result<std::string> text = policy_text(*link);
  ASSERT_TRUE(text);
  EXPECT_EQ(text.value(), policy::default_text());
}

TEST_F(MintLinkTest, WhoeverIsToldToAsksItForNames) {
  const std::unique_ptr<policy::NameService> names = make_names(*link);
  const auto own = policy::find_account("root");
  policy::ask_names_of(names.get());
  const auto asked = policy::find_account("root");
  ::kill(link->pid(), SIGSTOP);
  policy::ask_names_of(nullptr);
  ::kill(link->pid(), SIGCONT);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->uid, own->uid);
}

TEST_F(MintLinkTest, RefusesWhatAStrangerWouldAsk) {
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const Fd memory(::memfd_create("stranger", MFD_CLOEXEC));
  EXPECT_EQ(refused(Kind::open_backing, 0, "", {null.borrow(), memory.borrow()}), ErrorCode::malformed);
  EXPECT_EQ(refused(Kind::open_backing, 0, "", {memory.borrow(), null.borrow()}), ErrorCode::malformed);
  EXPECT_EQ(refused(Kind::close_backings, 0, "ids", {null.borrow()}), ErrorCode::malformed);
  EXPECT_EQ(refused(Kind::bury_backing, 1, "", {null.borrow()}), ErrorCode::malformed);
  EXPECT_EQ(refused(Kind::start_keeper, 1, "../../etc/passwd"), ErrorCode::malformed);
  EXPECT_EQ(refused(Kind::start_keeper, ~0ULL, "keeper.sock"), ErrorCode::malformed);
  EXPECT_EQ(refused(Kind::account_of, 1ULL << 32U, ""), ErrorCode::malformed);
  for (const char* id : {"..", "../..", "a/b", ".", "/etc"})
    EXPECT_EQ(refused(Kind::endpoint_mount, 0, id), ErrorCode::invalid) << id;
  for (const char* pool : {"/etc", "..", "dram"})
    EXPECT_EQ(refused(Kind::pool_directory, 0, pool), ErrorCode::not_found) << pool;
  EXPECT_TRUE(make_names(*link)->account(0U)) << "it goes on";
}

// What cannot be an own region's memory is never looked up in the programs' map.
TEST_F(MintLinkTest, MarksForTheLsmProgramsOnlyRootsOwnFilesOfModeSixHundred) {
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const Fd wide(::memfd_create("stranger", MFD_CLOEXEC));
  const Fd foreign(::memfd_create("stranger", MFD_CLOEXEC));
  ASSERT_EQ(::fchmod(foreign.get(), 0600), 0);
  ASSERT_EQ(::fchown(foreign.get(), 65534, 65534), 0);
  const auto sentence = [&](const Fd& file) {
    const BorrowedFd given = file.borrow();
    const Result<Link::Heard> heard = link->ask(Kind::lsm_mark, 0, "", std::span(&given, 1), Link::kAtOnce);
    return heard ? std::string("marked") : heard.error().sentence;
  };
  if (sentence(null).find("not built in") != std::string::npos) GTEST_SKIP() << sentence(null);
  EXPECT_THAT(sentence(null), HasSubstr("only memory and files"));
  EXPECT_THAT(sentence(wide), HasSubstr("only a file with mode 0600"));
  EXPECT_THAT(sentence(foreign), HasSubstr("only files of root"));
}

TEST_F(MintLinkTest, SaysWhyAMachineCannotConfineByLsm) {
  const std::string why = confine::lsm_unavailable();
  const Result<Link::Heard> heard = link->ask(Kind::lsm_start, 0, "", {}, Link::kPatient);
  if (why.empty()) GTEST_SKIP() << "this one can: see the guest's confine-lsm";
  ASSERT_FALSE(heard);
  EXPECT_EQ(heard.error().sentence, why);
  EXPECT_TRUE(make_names(*link)->account(0U)) << "it goes on";
}

TEST_F(MintLinkTest, OpensAndClosesManyBackingsByOneMessage) {
  const Result<keeper::FuseMount> mounted = keeper::mount_fuse(std::chrono::seconds(60));
  if (!mounted) GTEST_SKIP() << mounted.error().sentence;
  const BorrowedFd device = mounted.value().device.borrow();
  const std::shared_ptr<keeper::Forge> forge = make_forge(*link);
  std::vector<Fd> files;
  std::vector<Fd> opened;
  std::vector<BorrowedFd> all;
  for (std::size_t i = 0; i < 2 * wire::kMostIds + 5; ++i) {
    files.emplace_back(::memfd_create("backing", MFD_CLOEXEC));
    opened.emplace_back(::open(fd_path(files.back().borrow()).c_str(), O_RDWR | O_CLOEXEC));
    all.push_back(opened.back().borrow());
  }
  Result<std::vector<std::int32_t>> registered = forge->open_backings(device, all);
  ASSERT_TRUE(registered) << registered.error().sentence;
  std::vector<std::int32_t> ids = std::move(registered.value());
  ASSERT_EQ(ids.size(), files.size());
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
  opened.clear();
  const auto open = [&files] {
    return std::count_if(files.begin(), files.end(), [](const Fd& file) {
      const Fd probe(::open(fd_path(file.borrow()).c_str(), O_RDONLY | O_CLOEXEC));
      return ::fcntl(probe.get(), F_SETLEASE, F_WRLCK) != 0;
    });
  };
  EXPECT_EQ(open(), static_cast<std::ptrdiff_t>(files.size()));
  const std::int32_t last = ids.back();
  ids.back() = 1'000'000'000;  // Nobody's.
  forge->close_backings(device, ids);
  EXPECT_EQ(open(), 1);
  forge->close_backings(device, {});
  forge->close_backings({}, ids);
  forge->close_backings(device, std::span(&last, 1));
  EXPECT_EQ(open(), 0);

  // All or none: of these the last is no file.
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const std::size_t good : {1U, 7U, 9U}) {
    all.clear();
    opened.clear();
    for (std::size_t i = 0; i < good; ++i) {
      opened.emplace_back(::open(fd_path(files[i].borrow()).c_str(), O_RDWR | O_CLOEXEC));
      all.push_back(opened.back().borrow());
    }
    all.push_back(null.borrow());
    EXPECT_FALSE(forge->open_backings(device, all));
    opened.clear();
    EXPECT_EQ(open(), 0) << good;
  }
  EXPECT_TRUE(forge->open_backings(device, {}).value().empty());
}

TEST_F(MintLinkTest, ALaneWithNonsenseEndsAndTheOthersGoOn) {
  auto control = schema::socket_pair();
  const pid_t mint = ::fork();
  if (mint == 0)
    run_mint(std::move(control.value().second), Fd(::open("/dev/null", O_RDONLY)), {}, Origin::broker);
  control.value().second.reset();
  const auto lane = [&] {
    auto ends = schema::socket_pair();
    wire::Request request;
    request.descriptors = 1;
    const BorrowedFd given = ends.value().second.borrow();
    EXPECT_TRUE(
        schema::send(control.value().first.borrow(), wire::bytes_of(request), std::span(&given, 1)).value());
    return std::move(ends.value().first);
  };
  const auto heard = [](const Fd& socket) {
    schema::Wait what = schema::Wait::would_block;
    bool answered = false;
    EXPECT_TRUE(comes_true([&] {
      auto received = schema::receive(socket.borrow(), sizeof(wire::Answer), 0);
      if (!received) return true;
      answered = std::holds_alternative<schema::Incoming>(received.value());
      if (!answered) what = std::get<schema::Wait>(received.value());
      return answered || what == schema::Wait::closed;
    }));
    return answered;
  };
  const Fd good = lane();
  const Fd bad = lane();
  wire::Request ask;
  ask.kind = Kind::account_of;
  EXPECT_TRUE(schema::send(good.borrow(), wire::bytes_of(ask)).value());
  EXPECT_TRUE(heard(good));
  EXPECT_TRUE(schema::send(bad.borrow(), std::as_bytes(std::span("nonsense", 8))).value());
  EXPECT_FALSE(heard(bad)) << "closed without a word";
  const Fd early = lane();
  wire::Request heir;
  heir.kind = Kind::heir;
  EXPECT_TRUE(schema::send(early.borrow(), wire::bytes_of(heir)).value());
  EXPECT_TRUE(heard(early)) << "refused: what makes processes is not asked there";
  EXPECT_TRUE(schema::send(good.borrow(), wire::bytes_of(ask)).value());
  EXPECT_TRUE(heard(good));
  // Nonsense on its own socket, and it ends: whoever has that is no broker.
  EXPECT_TRUE(schema::send(control.value().first.borrow(), wire::bytes_of(ask)).value());
  EXPECT_EQ(::waitpid(mint, nullptr, 0), mint);
}

TEST_F(MintLinkTest, WhoeverAsksHearsNothingOfItsDeath) {
  std::atomic<bool> over{false};
  std::atomic<int> asked{0};
  std::vector<std::thread> askers;
  for (int i = 0; i < 3; ++i) {
    askers.emplace_back([&] {
      const std::unique_ptr<policy::NameService> names = make_names(*link);
      while (!over.load()) {
        EXPECT_TRUE(names->account(0U));
        ++asked;
      }
    });
  }
  std::atomic<int> replaced{0};
  link->watch([&] { ++replaced; }, [] { ADD_FAILURE() << "lost"; });
  for (int killed = 0; killed < 10; ++killed) {
    const int before = asked.load();
    const int told = replaced.load();
    ASSERT_TRUE(comes_true([&] { return link->heir_pid() != 0; }));
    ::kill(link->pid(), SIGKILL);
    ASSERT_TRUE(comes_true([&] { return asked.load() > before + 5 && replaced.load() > told; })) << killed;
  }
  over = true;
  for (std::thread& asker : askers) asker.join();
}

TEST_F(MintLinkTest, AnHeirIsReplacedThoughNobodyAsks) {
  link->watch([] {}, [] { ADD_FAILURE() << "lost"; });
  const pid_t heir = link->heir_pid();
  const pid_t mint = link->pid();
  ::kill(heir, SIGKILL);
  ASSERT_TRUE(comes_true([&] { return link->heir_pid() != 0 && link->heir_pid() != heir; }));
  EXPECT_EQ(link->pid(), mint);
  ::kill(mint, SIGKILL);
  ASSERT_TRUE(comes_true([&] { return link->pid() != mint && link->heir_pid() != 0; }));
}

TEST_F(MintLinkTest, WithoutBothItIsSaidOnce) {
  std::atomic<int> lost{0};
  link->watch([] {}, [&] { ++lost; });
  ::kill(link->pid(), SIGSTOP);
  ::kill(link->heir_pid(), SIGKILL);
  ::kill(link->pid(), SIGKILL);
  ASSERT_TRUE(comes_true([&] { return lost.load() > 0; }));
  EXPECT_EQ(refused(Kind::account_of, 0, ""), ErrorCode::unavailable);
  EXPECT_EQ(lost.load(), 1);
}

TEST_F(MintLinkTest, AChildThatEndsAtWorkIsAnsweredByTheNext) {
  const std::unique_ptr<policy::NameService> names = make_names(*link);
  ASSERT_TRUE(names->account(0U));
  // The child that answered waits on its lane: it ends there, and the lane is asked on again.
  const pid_t mint = link->pid();
  ASSERT_EQ(::kill(-mint, 0), 0);
  const std::string children =
      "/proc/" + std::to_string(mint) + "/task/" + std::to_string(mint) + "/children";
  const Fd file(::open(children.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 256> text{};
  if (file.valid()) (void)!::read(file.get(), text.data(), text.size() - 1);
  for (char* at = text.data(); *at != '\0';) {
    char* end = nullptr;
    const long child = std::strtol(at, &end, 10);
    if (end == at) break;
    if (child != link->heir_pid()) ::kill(static_cast<pid_t>(child), SIGKILL);
    at = end;
  }
  EXPECT_TRUE(names->account(0U));
  EXPECT_EQ(link->pid(), mint) << "its mint lives";
}

}  // namespace
}  // namespace mapcap::broker::mint
