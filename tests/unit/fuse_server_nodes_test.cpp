// Nodes that are opened by a name, and those that are opened before it is known whose they will be.
#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "broker/keeper/label_board.h"
#include "broker/keeper/node_name.h"
#include "tests/unit/fuse_server_test_support.h"

namespace mapcap::broker::keeper {
namespace {

// Promises 1 and 2
TEST_F(FuseServerTest, IssuingThreadOpensByItsGrantsNameReadOnlyAndNothingElse) {
  const std::string name = node_name("bob/x", kGrant);
  const auto look_up = [&](const std::string& wanted, const Caller& caller,
                           std::uint64_t node = FUSE_ROOT_ID) {
    wire::Bytes body;
    for (const char c : wanted + '\0') body.push_back(static_cast<std::byte>(c));
    return ask(FUSE_LOOKUP, node, caller, body);
  };
  const Opening read_only = opening(kGrant, Access::read_only);
  EXPECT_EQ(look_up(name, {}).error, EPERM) << "the slot is closed";
  page_.let_open(opening(kGrant, Access::read_write));
  EXPECT_EQ(look_up(name, {}).error, EPERM) << "what may be written is opened otherwise";
  page_.let_open(opening(kGrant + 1, Access::read_only));
  EXPECT_EQ(look_up(name, {}).error, EPERM) << "another grant's slot";
  page_.let_open(read_only);
  EXPECT_EQ(look_up(name, stranger()).error, EPERM);
  EXPECT_EQ(look_up(name, {1000, Caller{}.tid}).error, EPERM) << "a recycled thread id";
  EXPECT_EQ(look_up(name, {}, kGrant).error, EPERM) << "nothing is below a grant";
  for (const char* other : {"", ".", "..", "bob:x", "x"}) EXPECT_EQ(look_up(other, {}).error, EPERM) << other;
  EXPECT_TRUE(server_.nodes().empty());

  const auto entry = look_up(name, {}).as<fuse_entry_out>();
  EXPECT_EQ(entry.nodeid, kGrant);
  EXPECT_EQ(entry.entry_valid, 0U);
  EXPECT_EQ(entry.attr.mode, 0100600U);
  EXPECT_EQ(entry.attr.uid, 0U);
  EXPECT_EQ(look_up(name, {}).error, EPERM) << "the grant exists";
  fuse_open_in write{};
  write.flags = O_RDWR;
  EXPECT_EQ(ask(FUSE_OPEN, kGrant, {}, body_of(write)).error, EPERM);
  const auto opened = ask(FUSE_OPEN, kGrant, {}, body_of(fuse_open_in{})).as<fuse::OpenOut>();
  EXPECT_EQ(opened.backing_id, 9);
  EXPECT_EQ(opened.open_flags, fuse::kDirectIo | fuse::kOpenPassthrough | fuse::kNoFlush);
  page_.clear();
  EXPECT_EQ(look_up(node_name("bob/x", kGrant + 1), {}).error, EPERM);
  EXPECT_EQ(ask(FUSE_OPEN, kGrant, {}, body_of(fuse_open_in{})).error, EPERM);
  ask(FUSE_FORGET, kGrant, {}, body_of(fuse_forget_in{1}));
  EXPECT_EQ(server_.take_released(), std::vector<confine::GrantId>{kGrant});
}

TEST_F(FuseServerTest, OnlyNamesThatADeadBrokerMayHaveLeftAreToldToTheNext) {
  LabelBoard board = std::move(LabelBoard::create().value());
  server_.use_labels(std::move(LabelBoard::map(Fd(::dup(board.fd().get()))).value()));
  const auto open = [&](confine::GrantId grant, bool ahead) {
    Opening wanted = opening(grant, Access::read_only);
    if (ahead) wanted.place = board.reserve(grant);
    wanted.of_region = ahead;
    page_.let_open(wanted);
    wire::Bytes body;
    for (const char c : node_name("bob/x", grant) + '\0') body.push_back(static_cast<std::byte>(c));
    EXPECT_EQ(ask(FUSE_LOOKUP, FUSE_ROOT_ID, {}, body).error, 0);
    page_.clear();
    return wanted.place;
  };
  issue();
  EXPECT_TRUE(server_.names_left().empty()) << "it never had one";
  open(kGrant + 1, false);
  EXPECT_EQ(server_.names_left(), std::vector<std::string>{"bob:x#3"});
  open(kGrant + 2, false);
  EXPECT_EQ(server_.names_left(), std::vector<std::string>{"bob:x#4"}) << "the one before has lost its";
  const auto place = open(kGrant + 3, true);
  const std::vector<std::string> left = server_.names_left();
  EXPECT_EQ(std::set<std::string>(left.begin(), left.end()), (std::set<std::string>{"bob:x#4", "bob:x#5"}));
  board.write(*place, {{8192}, {7, 8}, opening().label});
  server_.take_labels();
  EXPECT_EQ(server_.names_left(), std::vector<std::string>{"bob:x#4"}) << "somebody has it, and not its name";
  ask(FUSE_FORGET, kGrant + 2, {}, body_of(fuse_forget_in{1}));
  EXPECT_TRUE(server_.names_left().empty());
}

TEST(NodeName, SaysWhichRegionAndIsOneNameAndNoOthers) {
  EXPECT_EQ(node_name("alice/frames", kGrant), "alice:frames#2");
  EXPECT_EQ(node_name("alice/frames", kGrant + 40), "alice:frames#2a");
  EXPECT_EQ(node_name("", kGrant), "#2");
  EXPECT_EQ(node_name(std::string_view("a\0b\n/../c", 9), kGrant), "a:b::..:c#2");
  EXPECT_LE(node_name(std::string(255, 'a'), ~0ULL).size(), 255U);
}

TEST_F(FuseServerTest, ABlankSaysNothingUntilItHasItsLabelAndThatFromThenOn) {
  LabelBoard board = std::move(LabelBoard::create().value());
  server_.use_labels(std::move(LabelBoard::map(Fd(::dup(board.fd().get()))).value()));
  Opening blank = opening();
  blank.size = {};
  blank.label = encode_label({}).value();
  blank.place = board.reserve(kGrant);
  page_.let_open(blank);
  struct Both {
    fuse_entry_out entry;
    fuse::OpenOut open;
  };
  const auto opened = ask(FUSE_TMPFILE, FUSE_ROOT_ID, {}).as<Both>();
  page_.clear();
  EXPECT_EQ(opened.open.backing_id, 9);
  EXPECT_EQ(opened.entry.attr_valid, 0U) << "the kernel would believe that it has no bytes";
  EXPECT_EQ(server_.take_opened(), (std::vector<std::pair<RegionId, std::int32_t>>{{RegionId{5}, 9}}));
  const auto get = [this] {
    return ask(FUSE_GETXATTR, kGrant, stranger(),
               body_of(fuse_getxattr_in{.size = 256, .padding = 0}, "system.mapcap.name"));
  };
  EXPECT_EQ(get().error, ENODATA);
  std::size_t blanks = 0;
  server_.visit_blanks([&](RegionId region) { blanks += region == RegionId{5} ? 1 : 0; });
  EXPECT_EQ(blanks, 1U);

  const confine::Label label{"bob/later", {4096}, Access::read_write, "uc", "wb", "none volatile",
                             "clone",     {7, 8}};
  board.write(*blank.place, {label.size, label.holder, encode_label(label).value()});
  EXPECT_EQ(get().text(), "bob/later") << "without being told to look";
  const auto attributes = ask(FUSE_GETATTR, kGrant, stranger()).as<fuse_attr_out>();
  EXPECT_EQ(attributes.attr.size, 4096U);
  EXPECT_GT(attributes.attr_valid, 0U);
  EXPECT_EQ(server_.nodes().at(kGrant).holder.uid, 7U) << "whose it is, for the next broker";
  server_.visit_blanks([](RegionId) { ADD_FAILURE() << "it is none any more"; });
  EXPECT_TRUE(board.reserve(kGrant + 1));
  // The broker's end changes nothing for it.
  server_.end_labels();
  EXPECT_EQ(get().text(), "bob/later");
}

// Promise 9: what is nobody's yet must not take its region's memory with it.
TEST_F(FuseServerTest, AnOpenMadeAheadIsOfARegionThatIsThereAndNobodysUntilItIsTold) {
  LabelBoard board = std::move(LabelBoard::create().value());
  server_.use_labels(std::move(LabelBoard::map(Fd(::dup(board.fd().get()))).value()));
  const auto open_ahead = [&](confine::GrantId grant, bool of_region) {
    Opening ahead = opening(grant);
    ahead.holder = {};
    ahead.place = board.reserve(grant);
    ahead.of_region = of_region;
    page_.let_open(ahead);
    EXPECT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {}).error, 0);
    page_.clear();
    return *ahead.place;
  };
  const auto name_of = [this](confine::GrantId grant) {
    return ask(FUSE_GETXATTR, grant, stranger(),
               body_of(fuse_getxattr_in{.size = 256, .padding = 0}, "system.mapcap.name"))
        .text();
  };
  const std::uint32_t place = open_ahead(kGrant, true);
  EXPECT_TRUE(server_.take_opened().empty()) << "its region's backing is known";
  server_.visit_blanks([](RegionId) { ADD_FAILURE() << "the region would lose its memory with the broker"; });
  EXPECT_GT(ask(FUSE_GETATTR, kGrant, stranger()).as<fuse_attr_out>().attr_valid, 0U)
      << "a region's size is its last";
  EXPECT_TRUE(server_.nodes().at(kGrant).place) << "it is listed as somebody's";
  board.write(place, {{8192}, {7, 8}, opening().label});
  EXPECT_EQ(name_of(kGrant), "bob/x");
  EXPECT_FALSE(server_.nodes().at(kGrant).place);
  EXPECT_EQ(server_.nodes().at(kGrant).holder, (confine::Holder{7, 8}));

  // One of a region whose first grant was a blank, of which the keeper has not read yet what it became.
  const std::uint32_t first = open_ahead(kGrant + 1, false);
  const std::uint32_t second = open_ahead(kGrant + 2, true);
  const std::uint32_t third = open_ahead(kGrant + 3, true);
  board.write(second, {{8192}, {7, 8}, opening().label});
  board.write(first, {{8192}, {9, 10}, opening().label});
  EXPECT_EQ(name_of(kGrant + 2), "bob/x");
  server_.take_labels();
  EXPECT_EQ(server_.nodes().at(kGrant + 1).holder.uid, 9U) << "forgotten with the other's";
  server_.visit_blanks([](RegionId) { ADD_FAILURE() << "it is none any more"; });
  // The broker's end leaves the third what it is, and the last word about the others is told.
  server_.end_labels();
  board.write(third, {{8192}, {7, 8}, opening().label});
  server_.take_labels();
  EXPECT_TRUE(server_.nodes().at(kGrant + 3).place);
  for (confine::GrantId grant = kGrant; grant <= kGrant + 3; ++grant)
    ask(FUSE_FORGET, grant, {}, body_of(fuse_forget_in{1}));
  EXPECT_EQ(server_.take_released().size(), 4U);
  EXPECT_TRUE(server_.nodes().empty());
}

TEST_F(FuseServerTest, APageThatNamesAPlaceMeansNothingWithoutABoard) {
  Opening found = opening();
  found.place = 3;  // As an older broker leaves it, which knows nothing of it.
  page_.let_open(found);
  EXPECT_EQ(ask(FUSE_TMPFILE, FUSE_ROOT_ID, {}).error, 0);
  page_.clear();
  EXPECT_EQ(ask(FUSE_GETXATTR, kGrant, stranger(),
                body_of(fuse_getxattr_in{.size = 256, .padding = 0}, "system.mapcap.name"))
                .text(),
            "bob/x");
  EXPECT_TRUE(server_.take_opened().empty());
}

}  // namespace
}  // namespace mapcap::broker::keeper
