// Promise 16, where the kernel has no way to keep it: what went through an endpoint of regions that live on. Everybody is
// told, and nobody gets more of it.
#include <gmock/gmock.h>

#include <vector>

#include "tests/support/endpoints.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uid_t kMaker = 64002;

bool readable(const Mapping& mapping) {
  bool read = false;
  (void)guarded(mapping.bytes(), [&]() noexcept {
    const volatile std::byte first = mapping.bytes()[0];
    (void)first;
    read = true;
  });
  return read;
}

class EndpointOpenedTest : public EndpointTest {
 protected:
  static EndpointSpec readers() {
    EndpointSpec wanted = spec("readers", {"models/**"});
    wanted.verbs = {"open"};
    wanted.rights = Access::read_only;
    return wanted;
  }
};

TEST_F(EndpointOpenedTest, AGrantOfAnothersRegionIsNamedAndStaysUntilThatIsRevoked) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  root.create(region("models/a"));
  root.create(region("models/untouched"));
  root.endpoint_create(readers());
  const Mapping held(through(broker, "readers").open("models/a", Access::read_only));
  EXPECT_FALSE(root.show("models/a").holders.at(0).ended);
  const EndpointEnded ended = root.endpoint_end("readers");
  EXPECT_EQ(ended.opened, 1U);
  EXPECT_THAT(ended.opened_regions, ElementsAre("models/a"));
  EXPECT_EQ(ended.revoked + ended.cut, 0U);
  EXPECT_TRUE(readable(held)) << "no kernel takes one mapping of a memory back";
  const Holder holder = root.show("models/a").holders.at(0);
  EXPECT_EQ(holder.endpoint, "readers");
  EXPECT_TRUE(holder.ended);
  EXPECT_THAT(mapcap(broker, {"holders"}).out, HasSubstr("endpoint readers (ended)"));
  EXPECT_TRUE(comes_true([&] {
    return broker.log().find("verb=endpoint-end verdict=allowed name=readers") != std::string::npos;
  }));
  EXPECT_THAT(broker.log(), HasSubstr("left=\"1 grant of models/a\""));
  // After a death too.
  broker.kill_broker();
  broker.start();
  Client again = broker.connect();
  EXPECT_TRUE(again.show("models/a").holders.at(0).ended);
  again.revoke("models/a");
  EXPECT_FALSE(readable(held));
}

TEST_F(EndpointOpenedTest, TheCommandSaysWhatStaysAndRevokesItsMakersIfAsked) {
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  root.create(region("models/a"));
  root.endpoint_create(readers());
  const Mapping held(through(broker, "readers").open("models/a", Access::read_only));
  EXPECT_THAT(mapcap(broker, {"endpoint", "end", "readers"}).out,
              HasSubstr("still with whoever got them through it: 1 grant of models/a"));
  root.endpoint_create(readers());
  const Mapping more(through(broker, "readers").open("models/a", Access::read_only));
  const CommandResult cut = mapcap(broker, {"endpoint", "end", "readers", "--revoke-opened"});
  EXPECT_THAT(cut.out, HasSubstr("1 region that it had open revoked"));
  EXPECT_THAT(cut.out, testing::Not(HasSubstr("still with")));
  EXPECT_FALSE(readable(more));
  EXPECT_FALSE(readable(held)) << "a region is cut for everybody";
}

TEST_F(EndpointOpenedTest, ItRevokesNothingThatItsMakerDoesNotOwn) {
  BrokerProcess broker(open_policy("[[rule]]\nuser = 64002\nverbs = [\"endpoint\"]\n"));
  broker.start();
  Client root = broker.connect();
  RegionSpec everybodys = region("models/roots");
  everybodys.mode = 0644;
  root.create(everybodys);
  ASSERT_EQ(as_user(kMaker,
                    [&] {
                      Client maker = broker.connect();
                      maker.create(region("models/makers"));
                      maker.endpoint_create(readers());
                      return 0;
                    }),
            0);
  Client client = through(broker, place_of(kMaker, "readers"));
  const Mapping roots(client.open("models/roots", Access::read_only));
  const Mapping makers(client.open("models/makers", Access::read_only));
  EXPECT_EQ(as_user(kMaker,
                    [&] {
                      const EndpointEnded ended = broker.connect().endpoint_end("readers", true);
                      if (ended.cut != 1 || ended.opened != 1) return 1;
                      return ended.opened_regions == std::vector<std::string>{"models/roots"} ? 0 : 2;
                    }),
            0);
  EXPECT_TRUE(readable(roots));
  EXPECT_FALSE(readable(makers));
  EXPECT_EQ(root.show("models/roots").region.state, RegionState::live);
}

}  // namespace
}  // namespace mapcap::test
