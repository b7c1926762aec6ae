// Every mistake in a policy file is an error with its position, and nothing else is.
#include "policy/load/loader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "mapcap/fd.h"
#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(Loader, ReadsEveryKey) {
  const auto loaded = try_load(R"(
[broker]
socket = "/tmp/s"
state = "/srv/mapcap/"
grace = "7s"
expiring_notice = "1m"
keeper_deadline = "500ms"
max_connections = 10
max_connections_per_user = 3

[pool.zeta]
backing = "memory"
capacity = "25%"
confinement = "sealed"
seals = ["revocable"]
cache = ["wt"]
wt_platform = true
populate = true
huge = "always"
numa = 1

[pool.secret]
backing = "memory"
capacity = "64M"
secret = true

[pool.file]
backing = "dax-file"
path = "/mnt/pmem/../pmem/mapcap/"
capacity = "1.5G"
confinement = "lsm"
pin_deadline = "1500ms"

[pool.dev]
backing = "dax-device"
devices = ["/dev/dax1.0", "/dev/dax1.1"]

[pool.div]
backing = "dax-device"
region = "region0"
capacity = "4G"
end_holders_after = "10s"

[pool.bar]
backing = "pci-bar"
resources = ["/sys/bus/pci/devices/0000:00:04.0/resource2"]
cache = ["wc", "uc"]
confinement = "native"
)");
  ASSERT_TRUE(loaded) << loaded.error().sentence;
  const Policy& policy = *loaded.value();
  EXPECT_EQ(policy.broker(), (BrokerSettings{"/tmp/s", "/srv/mapcap", std::chrono::seconds(7),
                                             std::chrono::minutes(1), std::chrono::milliseconds(500), 10, 3,
                                             policy.broker().socket_at, policy.broker().state_at}));
  std::vector<std::string> names;
  for (const PoolSettings& pool : policy.pools()) names.push_back(pool.name);
  EXPECT_THAT(names,
              testing::ElementsAre("zeta", "secret", "file", "dev", "div", "bar"));  // the file's order

  const PoolSettings& zeta = policy.pools()[0];
  EXPECT_EQ(zeta.where, "p.toml:11");
  EXPECT_EQ(zeta.capacity, Capacity(Percent{25}));
  EXPECT_EQ(zeta.confinement, Confinement::sealed);
  EXPECT_EQ(zeta.seals, std::vector{SealKind::revocable});
  EXPECT_EQ(zeta.cache, std::vector{CacheMode::write_through});
  EXPECT_TRUE(zeta.wt_platform);
  EXPECT_TRUE(zeta.populate && zeta.huge && !zeta.secret);
  EXPECT_EQ(zeta.numa, 1U);
  EXPECT_EQ(policy.pools()[1].seals, std::vector{SealKind::sealed});
  EXPECT_EQ(policy.pools()[1].confinement, std::nullopt);
  EXPECT_EQ(policy.pools()[2].path, "/mnt/pmem/mapcap");
  EXPECT_EQ(policy.pools()[2].capacity, Capacity(ByteCount{1'610'612'736}));
  EXPECT_EQ(policy.pools()[2].seals, std::vector{SealKind::revocable});
  EXPECT_EQ(policy.pools()[2].pin_deadline, std::chrono::milliseconds(1500));
  EXPECT_EQ(policy.pools()[3].pin_deadline, std::chrono::seconds(5));
  EXPECT_EQ(policy.pools()[3].devices.size(), 2U);
  for (const std::size_t device : {3U, 4U, 5U}) {
    EXPECT_EQ(policy.pools()[device].seals, std::vector{SealKind::irrevocable});
  }
  EXPECT_EQ(policy.pools()[4].region, "region0");
  EXPECT_EQ(policy.pools()[4].end_holders_after, std::chrono::seconds(10));
  EXPECT_EQ(policy.pools()[5].end_holders_after, std::nullopt);
  EXPECT_EQ(policy.pools()[5].cache, (std::vector{CacheMode::write_combining, CacheMode::uncached}));
}

TEST(Loader, SettingsThatAreNotSaidHaveTheirDefaults) {
  EXPECT_EQ(load_with_pool("")->broker(), BrokerSettings{});
}

struct Mistake {
  const char* name;
  const char* after_pool;  ///< Line 4 and on.
  const char* error;
};
void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.name;
}

class AfterAGoodPool : public testing::TestWithParam<Mistake> {};

TEST_P(AfterAGoodPool, IsAnErrorWithItsPosition) {
  EXPECT_THAT(why_with_pool(GetParam().after_pool), StartsWith(GetParam().error));
}

constexpr Mistake kMistakes[] = {
    {"Syntax", "[[rule]\n", "p.toml:4:"},
    {"HeaderCutShort", "[\n", "p.toml:4:2: "},  // toml++ 3.3.0 would end the process
    {"LetterOutsideAscii", "[broker]\ngrace = 5\xc3\xa9\n",
     "p.toml:5:9: this value needs quotes"},  // undefined in toml++ 3.3.0
    {"HeaderOfThree", "[[[x]]]\n", "p.toml:4:3: "},
    {"DuplicateKey", "[broker]\ngrace=1\ngrace=2\n", "p.toml:6:"},
    {"UnknownSection", "[pools]\n", "p.toml:4:2: policy: unknown key \"pools\"; did you mean \"pool\"?"},
    {"UnknownBrokerKey", "[broker]\nsoket=\"/x\"\n",
     "p.toml:5:1: [broker]: unknown key \"soket\"; did you mean \"socket\"?"},
    {"UnknownPoolKey", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nsize=1\n",
     "p.toml:7:1: [pool.x]: unknown key"},
    {"UnknownRuleKey", "[[rule]]\nany=true\nverb=[\"open\"]\n", "p.toml:6:1: [[rule]]: unknown key \"verb\""},
    {"PublishedIsNoWord", "[[rule]]\nany=true\npublished=\"maybe\"\n",
     "p.toml:6:11: [[rule]]: published \"maybe\" is not one of required"},
    {"PublishedDenied", "[[rule]]\nany=true\neffect=\"deny\"\npublished=\"required\"\n",
     "p.toml:7:11: [[rule]]: published limits what a rule allows, and this one denies"},
    {"PublishedWithoutOpen", "[[rule]]\nany=true\nverbs=[\"list\"]\npublished=\"required\"\n",
     "p.toml:7:11: [[rule]]: published limits what may be opened, and its verbs lack open"},
    {"UnknownQuotaKey", "[[quota]]\nany=true\nbytes=1\nsize=1\n",
     "p.toml:7:1: [[quota]]: unknown key \"size\""},
    {"BrokerIsNoTable", "broker=1\n", "p.toml:4:1: [pool.dram]: unknown key \"broker\""},
    {"RuleIsNoList", "[rule]\nany=true\n", "p.toml:4:1: policy: rule is a table, write [[rule]]"},
    {"GraceWrongKind", "[broker]\ngrace=true\n",
     "p.toml:5:7: [broker]: grace is true or false, it takes a duration"},
    {"GraceNoDuration", "[broker]\ngrace=\"5x\"\n", "p.toml:5:7: [broker]: duration \"5x\""},
    {"GraceTooLong", "[broker]\ngrace=\"2h\"\n", "p.toml:5:7: [broker]: grace is 2h, it takes 0s to 1h"},
    {"DeadlineTooShort", "[broker]\nkeeper_deadline=\"9ms\"\n",
     "p.toml:5:17: [broker]: keeper_deadline is 9ms"},
    {"NoConnections", "[broker]\nmax_connections=0\n",
     "p.toml:5:17: [broker]: max_connections is 0, it takes 1 to"},
    {"NegativeConnections", "[broker]\nmax_connections=-1\n", "p.toml:5:17: [broker]: max_connections is -1"},
    {"OneUserAboveAll", "[broker]\nmax_connections=5\nmax_connections_per_user=6\n",
     "p.toml:6:26: [broker]: one user"},
    {"RelativeSocket", "[broker]\nsocket=\"x\"\n", "p.toml:5:8: [broker]: socket is not an absolute path"},
    {"ADate", "[broker]\ngrace=2024-01-01\n", "p.toml:5:7: [broker]: grace is a date or a fraction"},

    {"NoBacking", "[pool.x]\ncapacity=\"1M\"\n", "p.toml:4:7: [pool.x]: backing is missing"},
    {"UnknownBacking", "[pool.x]\nbacking=\"disk\"\n",
     "p.toml:5:9: [pool.x]: backing \"disk\" is not one of memory,"},
    {"PoolNameTooLong", "[pool.abcdefghijklmnopqrstuvwx]\nbacking=\"memory\"\ncapacity=1048576\n",
     "p.toml:4:"},
    {"PoolNameAlphabet", "[pool.\"a b\"]\nbacking=\"memory\"\ncapacity=1048576\n", "p.toml:4:"},
    {"DuplicatePool", "[pool.dram]\nbacking=\"memory\"\n", "p.toml:4:"},
    {"NoCapacity", "[pool.x]\nbacking=\"memory\"\n", "p.toml:4:7: [pool.x]: a memory pool needs a capacity"},
    {"CapacityZero", "[pool.x]\nbacking=\"memory\"\ncapacity=0\n",
     "p.toml:6:10: [pool.x]: capacity holds less than"},
    {"CapacityBelowAPage", "[pool.x]\nbacking=\"memory\"\ncapacity=4095\n",
     "p.toml:6:10: [pool.x]: capacity holds"},
    {"CapacityNegative", "[pool.x]\nbacking=\"memory\"\ncapacity=-1\n",
     "p.toml:6:10: [pool.x]: capacity is a number"},
    {"ShareZero", "[pool.x]\nbacking=\"memory\"\ncapacity=\"0%\"\n",
     "p.toml:6:10: [pool.x]: capacity \"0%\""},
    {"ShareAboveAll", "[pool.x]\nbacking=\"memory\"\ncapacity=\"101%\"\n", "p.toml:6:10: [pool.x]: capacity"},
    {"ShareOfNothing", "[pool.x]\nbacking=\"memory\"\ncapacity=\"%\"\n", "p.toml:6:10: [pool.x]: capacity"},
    {"SizeTooLarge", "[pool.x]\nbacking=\"memory\"\ncapacity=\"9E\"\n",
     "p.toml:6:10: [pool.x]: size \"9E\": more than"},
    {"UnknownConfinement", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nconfinement=\"none\"\n",
     "p.toml:7:13: [pool.x]: confinement \"none\" is not one of auto, clone, native, lsm, sealed"},
    {"NativeMemory", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nconfinement=\"native\"\n",
     "p.toml:7:13: [pool.x]: confinement \"native\" is impossible for memory"},
    {"SealedFile", "[pool.x]\nbacking=\"dax-file\"\npath=\"/a\"\nconfinement=\"sealed\"\n",
     "p.toml:7:13: [pool.x]: confinement \"sealed\" is impossible for dax-file"},
    {"SealedSealOnFile", "[pool.x]\nbacking=\"dax-file\"\npath=\"/a\"\nseals=[\"sealed\"]\n",
     "p.toml:7:7: [pool.x]: only memory can be sealed"},
    {"SealedHugePages",
     "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nhuge=\"always\"\nseals=[\"sealed\"]\n",
     "p.toml:8:7: [pool.x]: huge pages carry no seals: they are revocable"},
    {"RevocableSecret", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nsecret=true\nseals=[\"revocable\"]\n",
     "p.toml:8:7: [pool.x]: secret memory cannot be taken from its holders"},
    {"PopulatedSecret", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nsecret=true\npopulate=true\n",
     "p.toml:4:7: [pool.x]: secret memory cannot be huge, bound to a NUMA node or populated ahead"},
    {"UncachedMemory", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\ncache=[\"wb\", \"uc\"]\n",
     "p.toml:7:7: [pool.x]: cache mode uc cannot be had of this pool, only wb"},
    {"WriteThroughBar", "[pool.x]\nbacking=\"pci-bar\"\nresources=[\"/r\"]\nwt_platform=true\n",
     "p.toml:7:13: [pool.x]: wt_platform is for memory, files and divided regions"},
    {"RevocableDevice", "[pool.x]\nbacking=\"dax-device\"\nregion=\"0\"\nseals=[\"revocable\"]\n",
     "p.toml:7:7: [pool.x]: devices cannot be taken from whoever has them"},
    {"IrrevocableMemory", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nseals=[\"irrevocable\"]\n",
     "p.toml:7:7: [pool.x]: only devices are irrevocable"},
    {"PinDeadlineOfMemory", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\npin_deadline=\"1s\"\n",
     "p.toml:7:14: [pool.x]: pin_deadline belongs to backing \"dax-file\""},
    {"EndingHoldersOfMemory", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nend_holders_after=\"1s\"\n",
     "p.toml:7:19: [pool.x]: end_holders_after is for devices"},
    {"EndingHoldersTooLate", "[pool.x]\nbacking=\"dax-device\"\nregion=\"0\"\nend_holders_after=\"1m\"\n",
     "p.toml:7:19: [pool.x]: end_holders_after is 1m, it takes 0s to 20s"},
    {"PinDeadlineTooShort", "[pool.x]\nbacking=\"dax-file\"\npath=\"/a\"\npin_deadline=\"1ms\"\n",
     "p.toml:7:14: [pool.x]: pin_deadline is 1ms, it takes 10ms to 1h"},
    {"EmptySeals", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nseals=[]\n",
     "p.toml:7:7: [pool.x]: seals is empty"},
    {"SealTwice", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nseals=[\"sealed\",\"sealed\"]\n",
     "p.toml:7:17: [pool.x]: seals has \"sealed\" twice"},
    {"PathOnMemory", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\npath=\"/a\"\n",
     "p.toml:7:6: [pool.x]: path belongs to backing \"dax-file\", this is \"memory\""},
    {"FileWithoutPath", "[pool.x]\nbacking=\"dax-file\"\n",
     "p.toml:4:7: [pool.x]: a dax-file pool needs the path"},
    {"RelativePath", "[pool.x]\nbacking=\"dax-file\"\npath=\"a\"\n",
     "p.toml:6:6: [pool.x]: \"a\" is not an absolute"},
    {"DeviceWithoutDevices", "[pool.x]\nbacking=\"dax-device\"\n",
     "p.toml:4:7: [pool.x]: a dax-device pool needs"},
    {"DevicesAndRegion", "[pool.x]\nbacking=\"dax-device\"\ndevices=[\"/dev/dax0.0\"]\nregion=\"region1\"\n",
     "p.toml:4:7: [pool.x]: a dax-device pool needs either"},
    {"DevicesAndCapacity", "[pool.x]\nbacking=\"dax-device\"\ndevices=[\"/dev/dax0.0\"]\ncapacity=\"1G\"\n",
     "p.toml:7:10: [pool.x]: the devices have the capacity"},
    {"BarWithoutResources", "[pool.x]\nbacking=\"pci-bar\"\n",
     "p.toml:4:7: [pool.x]: a pci-bar pool needs resources"},
    {"OneBarTwice", "[pool.x]\nbacking=\"pci-bar\"\nresources=[\"/r/resource2\",\"/r/resource2_wc\"]\n",
     "p.toml:4:7: [pool.x]: /r/resource2 and /r/resource2_wc are the same BAR"},
    {"SecretHuge", "[pool.x]\nbacking=\"memory\"\ncapacity=\"1M\"\nsecret=true\nhuge=\"always\"\n",
     "p.toml:4:7: [pool.x]: secret memory cannot be huge"},
    {"StateInsidePool", "[pool.x]\nbacking=\"dax-file\"\npath=\"/var\"\n",
     "p.toml:4:7: [pool.x]: path /var holds"},

    {"NobodyInRule", "[[rule]]\nverbs=[\"open\"]\n",
     "p.toml:4:1: [[rule]]: say whom it is about with exactly one of"},
    {"TwoSubjects", "[[rule]]\nany=true\nuser=\"alice\"\n", "p.toml:4:1: [[rule]]: say whom it is about"},
    {"AnyFalse", "[[rule]]\nany=false\n", "p.toml:5:5: [[rule]]: any takes true"},
    {"UnknownUser", "[[rule]]\nuser=\"mallory\"\n", "p.toml:5:6: [[rule]]: user \"mallory\" is not known"},
    {"UnknownGroup", "[[rule]]\ngroup=\"wheel\"\n", "p.toml:5:7: [[rule]]: group \"wheel\" is not known"},
    {"NegativeUid", "[[rule]]\nuid=[1,-1]\n", "p.toml:5:8: [[rule]]: uid takes a name or an id from 0"},
    {"ReservedUid", "[[rule]]\nuser=4294967295\n", "p.toml:5:6: [[rule]]: user takes a name or an id from 0"},
    {"UidTwice", "[[rule]]\nuid=[1,1]\n", "p.toml:5:8: [[rule]]: uid has 1 twice"},
    {"UnknownPool", "[[rule]]\nany=true\npools=[\"dram\",\"pmem\"]\n",
     "p.toml:6:15: [[rule]]: there is no pool \"pmem\"; there are dram"},
    {"UnknownVerb", "[[rule]]\nany=true\nverbs=[\"delete\"]\n",
     "p.toml:6:8: [[rule]]: verb \"delete\" is not one of"},
    {"UnknownRight", "[[rule]]\nany=true\nrights=[\"rwx\"]\n",
     "p.toml:6:9: [[rule]]: rights \"rwx\" is not one of"},
    {"UnknownEffect", "[[rule]]\nany=true\neffect=\"maybe\"\n",
     "p.toml:6:8: [[rule]]: effect \"maybe\" is not one"},
    {"UnknownPlaceholder", "[[rule]]\nany=true\nnames=[\"{group}/**\"]\n",
     "p.toml:6:8: [[rule]]: names: \"{group}/**\""},
    {"GlobOfNoName", "[[rule]]\nany=true\nnames=[\"[ab]\"]\n",
     "p.toml:6:8: [[rule]]: names: \"[ab]\" matches no name: no name has"},
    {"GlobWithLeadingSlash", "[[rule]]\nany=true\neffect=\"deny\"\nnames=[\"a/**\", \"/payroll/**\"]\n",
     "p.toml:7:16: [[rule]]: names: \"/payroll/**\" matches no name: names begin with no slash; did you mean "
     "\"payroll/**\"?"},
    {"GlobWithTrailingSlash", "[[rule]]\nany=true\neffect=\"deny\"\nnames=[\"payroll/\"]\n",
     "p.toml:7:8: [[rule]]: names: \"payroll/\" matches no name: names end with no slash"},
    {"GlobWithDots", "[[rule]]\nany=true\neffect=\"deny\"\nnames=[\"./payroll/**\"]\n",
     "p.toml:7:8: [[rule]]: names: \"./payroll/**\" matches no name: a component"},
    {"OpenBrace", "[[rule]]\nany=true\nnames=[\"a{\"]\n", "p.toml:6:8: [[rule]]: names"},
    {"NamesNoList", "[[rule]]\nany=true\nnames=\"x\"\n",
     "p.toml:6:7: [[rule]]: names is a string, it takes a list"},
    {"NameNoString", "[[rule]]\nany=true\nnames=[1]\n",
     "p.toml:6:8: [[rule]]: names is a number, it takes strings"},
    {"MaximumOfADeny", "[[rule]]\nany=true\neffect=\"deny\"\nmax_size=\"1M\"\n",
     "p.toml:7:10: [[rule]]: max_size limits what a rule allows, and this one denies"},
    {"TtlMaximumWithoutTtl", "[[rule]]\nany=true\nlifetimes=[\"persistent\"]\nmax_ttl=\"1h\"\n",
     "p.toml:7:9: [[rule]]: max_ttl says nothing"},
    {"TtlMaximumTooShort", "[[rule]]\nany=true\nmax_ttl=\"999ms\"\n",
     "p.toml:6:9: [[rule]]: max_ttl is 999ms"},
    {"SizeMaximumBelowAPage", "[[rule]]\nany=true\nmax_size=4095\n",
     "p.toml:6:10: [[rule]]: max_size is less than"},

    {"NothingLimited", "[[quota]]\nany=true\n", "p.toml:4:1: [[quota]]: it limits nothing"},
    {"NobodyLimited", "[[quota]]\nregions=1\n", "p.toml:4:1: [[quota]]: say whom it is about"},
    {"QuotaOfUids", "[[quota]]\nuid=[1]\nregions=1\n", "p.toml:4:1: [[quota]]: say whom"},
    {"QuotaOfUnknownPool", "[[quota]]\nany=true\npool=\"x\"\nregions=1\n",
     "p.toml:6:6: [[quota]]: there is no pool"},
    {"QuotaTwice", "[[quota]]\nuser=\"alice\"\nregions=1\n[[quota]]\nuser=1000\nbytes=1\n",
     "p.toml:7:1: [[quota]]: the same subject and pool already have limits at p.toml:4"},
    {"ConnectionsOfAPool", "[[quota]]\nany=true\npool=\"dram\"\nconnections=1\n",
     "p.toml:7:13: [[quota]]: connections"},
    {"ConnectionsOfAGroup", "[[quota]]\ngroup=\"staff\"\nconnections=1\n",
     "p.toml:6:13: [[quota]]: connections"},
    {"NegativeQuota", "[[quota]]\nany=true\nregions=-1\n", "p.toml:6:9: [[quota]]: regions is -1"},
};
INSTANTIATE_TEST_SUITE_P(Loader, AfterAGoodPool, testing::ValuesIn(kMistakes),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(Loader, AFileWithoutAPoolIsAnError) {
  EXPECT_THAT(why(""), HasSubstr("there is no pool"));
}

struct Overlap {
  const char* name;
  const char* first;
  const char* second;
  bool overlaps;
};
void PrintTo(const Overlap& overlap, std::ostream* out) {
  *out << overlap.name;
}

class TwoPools : public testing::TestWithParam<Overlap> {};

TEST_P(TwoPools, AreRefusedExactlyWhenTheyShareABackingDevice) {
  const std::string told =
      why(std::string("[pool.a]\n") + GetParam().first + "\n[pool.b]\n" + GetParam().second + "\n");
  if (GetParam().overlaps) {
    EXPECT_THAT(told, testing::ContainsRegex("p.toml:[0-9]+:7: .pool.b. overlaps .pool.a. .p.toml:1."));
  } else {
    EXPECT_EQ(told, "accepted");
  }
}

constexpr Overlap kOverlaps[] = {
    {"SameDirectory", "backing=\"dax-file\"\npath=\"/m/a\"", "backing=\"dax-file\"\npath=\"/m/./a/\"", true},
    {"NestedDirectory", "backing=\"dax-file\"\npath=\"/m\"", "backing=\"dax-file\"\npath=\"/m/a\"", true},
    {"EnclosingDirectory", "backing=\"dax-file\"\npath=\"/m/a\"", "backing=\"dax-file\"\npath=\"/m\"", true},
    {"SiblingDirectory", "backing=\"dax-file\"\npath=\"/m/a\"", "backing=\"dax-file\"\npath=\"/m/ab\"",
     false},
    {"SameDevice", "backing=\"dax-device\"\ndevices=[\"/dev/dax0.0\"]",
     "backing=\"dax-device\"\ndevices=[\"/dev/dax0.1\",\"/dev/dax0.0\"]", true},
    {"OtherDevice", "backing=\"dax-device\"\ndevices=[\"/dev/dax0.0\"]",
     "backing=\"dax-device\"\ndevices=[\"/dev/dax0.1\"]", false},
    {"SameRegion", "backing=\"dax-device\"\nregion=\"region0\"", "backing=\"dax-device\"\nregion=\"region0\"",
     true},
    {"DeviceOfRegion", "backing=\"dax-device\"\nregion=\"region0\"",
     "backing=\"dax-device\"\ndevices=[\"/dev/dax0.3\"]", true},
    {"DeviceOfOtherRegion", "backing=\"dax-device\"\nregion=\"region1\"",
     "backing=\"dax-device\"\ndevices=[\"/dev/dax0.3\"]", false},
    {"SameBar", "backing=\"pci-bar\"\nresources=[\"/r/resource2\"]",
     "backing=\"pci-bar\"\nresources=[\"/r/resource2_wc\"]", true},
    {"OtherBar", "backing=\"pci-bar\"\nresources=[\"/r/resource2\"]",
     "backing=\"pci-bar\"\nresources=[\"/r/resource4\"]", false},
    {"TwoMemoryPools", "backing=\"memory\"\ncapacity=\"50%\"", "backing=\"memory\"\ncapacity=\"50%\"", false},
};
INSTANTIATE_TEST_SUITE_P(Loader, TwoPools, testing::ValuesIn(kOverlaps),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(Loader, SharesOfMemoryAboveTheWholeAreImpossible) {
  EXPECT_THAT(
      why("[pool.a]\nbacking=\"memory\"\ncapacity=\"50%\"\n[pool.b]\nbacking=\"memory\"\ncapacity=\"51%\"\n"),
      HasSubstr("together take 101% of the machine's memory"));
}

TEST(Loader, TellsEveryProblemInTheFilesOrder) {
  const auto loaded = try_load("[pool.x]\nbacking=\"disk\"\n[broker]\ngrace=true\nsoket=1\n");
  ASSERT_FALSE(loaded);
  const Failure& error = loaded.error();
  EXPECT_EQ(error.code, ErrorCode::invalid);
  EXPECT_THAT(error.sentence, StartsWith("p.toml:2:9: "));
  EXPECT_THAT(error.sentence, HasSubstr("(and 2 more)"));
  ASSERT_EQ(error.details.size(), 3U);
  EXPECT_THAT(error.details[1].value, StartsWith("p.toml:4:7: "));
  EXPECT_THAT(error.details[2].value, StartsWith("p.toml:5:1: "));
}

TEST(Loader, DeepNestingIsAnErrorAndNoCrash) {
  EXPECT_THAT(why("a=" + std::string(100'000, '[')), StartsWith("p.toml:1:"));
}

TEST(Loader, MoreThanSixtyFourPoolsAreAnError) {
  std::string text;
  for (int i = 0; i < 65; ++i)
    text += "[pool.p" + std::to_string(i) + "]\nbacking=\"memory\"\ncapacity=\"1M\"\n";
  EXPECT_THAT(why(text), HasSubstr("more than 64 pools"));
}

/// A file that lives as long as the test.
class PolicyFile : public testing::Test {
 protected:
  PolicyFile() {
    Fd file(::mkostemp(path_.data(), O_CLOEXEC));
    EXPECT_TRUE(file.valid());
    EXPECT_EQ(::write(file.get(), kOnePool.data(), kOnePool.size()), static_cast<ssize_t>(kOnePool.size()));
  }
  ~PolicyFile() override { ::unlink(path_.c_str()); }
  std::string path_ = testing::TempDir() + "/mapcap-policy-XXXXXX";
};

TEST_F(PolicyFile, IsReadFromDisk) {
  const auto read = read_file(path_);
  ASSERT_TRUE(read) << read.error().sentence;
  EXPECT_EQ(read.value(), kOnePool);
}

TEST_F(PolicyFile, ThatEverybodyMayWriteIsRefused) {
  ASSERT_EQ(::chmod(path_.c_str(), 0646), 0);
  const auto read = read_file(path_);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::denied);
  EXPECT_THAT(read.error().sentence, HasSubstr("chmod o-w"));
}

TEST_F(PolicyFile, AboveFourMebibytesIsRefused) {
  ASSERT_EQ(::truncate(path_.c_str(), kMaxPolicyBytes + 1), 0);
  const auto read = read_file(path_);
  ASSERT_TRUE(read) << read.error().sentence;
  EXPECT_THAT(why(read.value()), HasSubstr("larger than 4 MiB"));
}

TEST(Loader, AMissingFileIsNotFoundAndADirectoryInvalid) {
  EXPECT_EQ(read_file("/nonexistent/p.toml").error().code, ErrorCode::not_found);
  EXPECT_EQ(read_file("/tmp").error().code, ErrorCode::invalid);
}

TEST(Loader, TheDefaultTextIsTheShippedFile) {
  EXPECT_THAT(std::string(default_text()), HasSubstr("[pool.dram]"));
}

}  // namespace
}  // namespace mapcap::policy
