// Command lines, as people write them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/table.h"
#include "client/cli/text.h"

namespace mapcap::cli {
namespace {

using ::testing::HasSubstr;

std::variant<Invocation, Finished> parsed(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "mapcap");
  return parse(static_cast<int>(arguments.size()), arguments.data());
}

template <typename T>
T command(std::vector<const char*> arguments) {
  auto result = parsed(std::move(arguments));
  if (auto* finished = std::get_if<Finished>(&result)) {
    ADD_FAILURE() << "refused: " << finished->text;
    return {};
  }
  auto& invocation = std::get<Invocation>(result);
  if (auto* found = std::get_if<T>(&invocation.command)) return std::move(*found);
  ADD_FAILURE() << "another command";
  return {};
}

// The sentence of a usage error.
std::string refused(std::vector<const char*> arguments) {
  auto result = parsed(std::move(arguments));
  const auto* finished = std::get_if<Finished>(&result);
  if (finished == nullptr) return "accepted";
  EXPECT_EQ(finished->code, 2);
  return finished->text;
}

TEST(CommandLine, PublishAndFillSayHowLongToWait) {
  EXPECT_EQ(command<PublishCommand>({"publish", "a"}).within.count(), 0);
  const auto publish = command<PublishCommand>({"publish", "a", "--within", "30s"});
  EXPECT_EQ(publish.name, "a");
  EXPECT_EQ(publish.within, std::chrono::seconds(30));
  EXPECT_FALSE(command<FillCommand>({"fill", "a", "-"}).publish);
  const auto fill = command<FillCommand>({"fill", "a", "-", "--publish", "--within", "1m"});
  ASSERT_TRUE(fill.publish);
  EXPECT_EQ(fill.publish->name, "a");
  EXPECT_EQ(fill.publish->within, std::chrono::minutes(1));
  EXPECT_THAT(refused({"fill", "a", "-", "--within", "1m"}), HasSubstr("add --publish"));
  EXPECT_THAT(refused({"publish", "a", "--within", "soon"}), HasSubstr("--within"));
}

TEST(CommandLine, CreateTakesEveryOption) {
  const auto spec =
      command<CreateCommand>({"create", "alice/x", "--size", "1.5M", "--pool", "dram", "--cache", "wt",
                              "--lifetime", "ttl:1h", "--mode", "0640", "--group", "0", "--revocable"})
          .spec;
  EXPECT_EQ(spec.name, "alice/x");
  EXPECT_EQ(spec.size, 1536U * 1024U);
  EXPECT_EQ(spec.pool, "dram");
  EXPECT_EQ(spec.cache.mode, CacheMode::write_through);
  EXPECT_TRUE(spec.cache.required);
  EXPECT_EQ(spec.lifetime, Lifetime::for_time(std::chrono::hours(1)));
  EXPECT_EQ(spec.mode, 0640U);
  EXPECT_EQ(spec.group, 0U);
  EXPECT_EQ(spec.seal, SealKind::revocable);
}

TEST(CommandLine, CreateWithoutOptionsMakesAPersistentPrivateRegion) {
  const auto spec = command<CreateCommand>({"create", "x", "--size", "64M"}).spec;
  EXPECT_EQ(spec.lifetime, Lifetime::persistent());
  EXPECT_EQ(spec.mode, 0600U);
  EXPECT_FALSE(spec.cache.required);
  EXPECT_FALSE(spec.seal.has_value());
  EXPECT_FALSE(spec.group.has_value());
}

TEST(CommandLine, APreferredCacheModeIsNotRequired) {
  const auto spec = command<CreateCommand>({"create", "x", "--size", "1M", "--prefer-cache", "wc"}).spec;
  EXPECT_EQ(spec.cache.mode, CacheMode::write_combining);
  EXPECT_FALSE(spec.cache.required);
}

TEST(CommandLine, NonsenseIsRefusedWithTheOptionThatIsWrong) {
  EXPECT_THAT(refused({"create", "x", "--size", "0"}), HasSubstr("--size"));
  EXPECT_THAT(refused({"create", "x", "--size", "many"}), HasSubstr("--size"));
  EXPECT_THAT(refused({"create", "x"}), HasSubstr("--size"));
  EXPECT_THAT(refused({"create", "x", "--size", "1M", "--cache", "wx"}), HasSubstr("--cache"));
  EXPECT_THAT(refused({"create", "x", "--size", "1M", "--mode", "0777"}), HasSubstr("--mode"));
  EXPECT_THAT(refused({"create", "x", "--size", "1M", "--sealed", "--revocable"}), HasSubstr("--revocable"));
  EXPECT_THAT(refused({"create", "x", "--size", "1M", "--group", "no-such-group"}),
              HasSubstr("no-such-group"));
  EXPECT_THAT(refused({"revoke", "x", "--within", "30s"}), HasSubstr("--drain"));
  EXPECT_THAT(refused({"frobnicate"}), HasSubstr("frobnicate"));
  EXPECT_NE(refused({}), "accepted");
}

TEST(CommandLine, RunSplitsGrantsFromTheProgram) {
  const auto run =
      command<RunCommand>({"run", "a/in", "a/out:rw", "b:ro", "--", "cmd", "--size", "--", "-x"});
  ASSERT_EQ(run.grants.size(), 3U);
  EXPECT_EQ(run.grants[0].rights, Access::read_only);
  EXPECT_EQ(run.grants[1].name, "a/out");
  EXPECT_EQ(run.grants[1].rights, Access::read_write);
  EXPECT_EQ(run.grants[2].rights, Access::read_only);
  EXPECT_THAT(run.program, ::testing::ElementsAre("cmd", "--size", "--", "-x"));
}

TEST(CommandLine, RunWithoutAProgramOrWithStrangeRightsIsRefused) {
  EXPECT_THAT(refused({"run", "a"}), HasSubstr("-- PROGRAM"));
  EXPECT_THAT(refused({"run", "a", "--"}), HasSubstr("-- PROGRAM"));
  EXPECT_THAT(refused({"run", "a:rx", "--", "cmd"}), HasSubstr("a:rx"));
  EXPECT_THAT(refused({"list", "--", "cmd"}), HasSubstr("run, clone, dev and endpoint run"));
}

TEST(CommandLine, CloneIsForWritingUnlessSaidOtherwise) {
  EXPECT_EQ(command<CloneCommand>({"clone", "/etc/passwd", "--", "cat"}).rights, Access::read_write);
  EXPECT_EQ(command<CloneCommand>({"clone", "/etc/passwd", "--ro", "--", "cat"}).rights, Access::read_only);
}

TEST(CommandLine, DevMayHaveAProgram) {
  EXPECT_THAT(command<DevCommand>({"dev", "--", "cmd", "-x"}).program, ::testing::ElementsAre("cmd", "-x"));
  EXPECT_THAT(command<DevCommand>({"dev"}).program, ::testing::IsEmpty());
}

TEST(CommandLine, ADashIsAFileToFillFromAndDumpTo) {
  EXPECT_EQ(command<FillCommand>({"fill", "x", "-"}).file, "-");
  const auto dump = command<DumpCommand>({"dump", "x", "-", "--bytes", "4K"});
  EXPECT_EQ(dump.file, "-");
  EXPECT_EQ(dump.bytes, 4096U);
}

TEST(CommandLine, QuotaIsListedUnlessSetOrCleared) {
  command<QuotaListCommand>({"quota"});
  command<QuotaListCommand>({"quota", "list"});
  const auto set = command<QuotaSetCommand>(
      {"quota", "set", "--user", "0", "--pool", "dram", "--bytes", "1G", "--regions", "10"});
  EXPECT_EQ(set.slot.subject, SubjectKind::user);
  EXPECT_EQ(set.slot.id, 0U);
  EXPECT_EQ(set.slot.pool, "dram");
  EXPECT_EQ(set.limits.bytes, std::uint64_t{1} << 30U);
  EXPECT_EQ(set.limits.regions, 10U);
  EXPECT_FALSE(set.limits.grants.has_value());
  EXPECT_EQ(command<QuotaClearCommand>({"quota", "clear", "--any"}).slot.subject, SubjectKind::any);
  EXPECT_THAT(refused({"quota", "set", "--bytes", "1G"}), HasSubstr("--user"));
  EXPECT_THAT(refused({"quota", "set", "--any", "--user", "0", "--bytes", "1G"}), HasSubstr("exactly one"));
  EXPECT_THAT(refused({"quota", "set", "--any"}), HasSubstr("no limit"));
  EXPECT_THAT(refused({"quota", "set", "--any", "--regions", "-1"}), HasSubstr("--regions"));
}

TEST(CommandLine, DoctorExaminesOrAttacks) {
  command<DoctorCommand>({"doctor"});
  EXPECT_EQ(command<AttackCommand>({"doctor", "--attack", "a/x"}).name, "a/x");
  EXPECT_EQ(command<AttackCommand>({"doctor", "--attack", "--memfd"}).name, "");
  EXPECT_THAT(refused({"doctor", "--attack"}), HasSubstr("--memfd"));
  EXPECT_EQ(command<AttackCommand>({"doctor", "--attack", "a/x", "--except", "a/b"}).except, "a/b");
  EXPECT_THAT(refused({"doctor", "--except", "a/b"}), HasSubstr("--attack"));
}

TEST(CommandLine, CommonOptionsStandBeforeOrAfterTheCommand) {
  for (auto arguments : {std::vector<const char*>{"--socket", "/s", "--json", "list"},
                         std::vector<const char*>{"list", "--socket", "/s", "--json"},
                         std::vector<const char*>{"quota", "list", "--json", "--socket", "/s"}}) {
    const auto result = parsed(arguments);
    ASSERT_TRUE(std::holds_alternative<Invocation>(result));
    EXPECT_EQ(std::get<Invocation>(result).common.socket, "/s");
    EXPECT_TRUE(std::get<Invocation>(result).common.json);
  }
}

TEST(CommandLine, HelpAndVersionAreNoErrors) {
  for (const char* option : {"--help", "--version"}) {
    const auto result = parsed({option});
    ASSERT_TRUE(std::holds_alternative<Finished>(result));
    EXPECT_EQ(std::get<Finished>(result).code, 0);
    EXPECT_THAT(std::get<Finished>(result).text, HasSubstr("mapcap"));
  }
}

TEST(SizeOutput, ABareNumberInASentenceHasAUnit) {
  EXPECT_EQ(size_phrase(1), "1 byte");
  EXPECT_EQ(size_phrase(1023), "1023 bytes");
  EXPECT_EQ(size_phrase(1024), "1K");
}

TEST(TableOutput, ColumnsAreAsWideAsTheirWidestCell) {
  Table table({{"NAME"}, {"SIZE", Align::right}});
  table.add({"a/long-name", "1M"});
  table.add({"b", "1.5G"});
  std::ostringstream out;
  table.print(out);
  EXPECT_EQ(out.str(), "NAME         SIZE\na/long-name    1M\nb            1.5G\n");
}

TEST(CommandLine, ExplainTakesAllThatARequestMaySayAndKnowsWhatWasSaid) {
  const auto all = command<PolicyExplainCommand>(
      {"policy", "explain", "--as", "alice", "--broker", "create", "alice/x", "--size", "64K", "--pool",
       "dram", "--rights", "rw", "--lifetime", "ttl:1h", "--mode", "0640", "--revocable"});
  EXPECT_EQ(all.user, "alice");
  EXPECT_TRUE(all.ask_broker);
  EXPECT_EQ(all.question.verb, "create");
  EXPECT_EQ(all.question.region.size, 65536U);
  EXPECT_EQ(all.question.rights, Access::read_write);
  EXPECT_EQ(all.question.region.seal, SealKind::revocable);
  EXPECT_TRUE(all.given.contains("--size"));
  EXPECT_FALSE(all.given.contains("--group"));
  const auto least = command<PolicyExplainCommand>({"policy", "explain", "--as", "alice", "create", "a"});
  EXPECT_EQ(least.question.region.size, 1U) << "the smallest that there is";
  EXPECT_EQ(least.question.region.lifetime, Lifetime::persistent());
  EXPECT_EQ(least.question.rights, std::nullopt);
  EXPECT_FALSE(least.given.contains("--size"));
  EXPECT_EQ(command<PolicyExplainCommand>({"policy", "explain", "--as", "0", "reload"}).question.region.name,
            "");
  EXPECT_THAT(refused({"policy", "explain", "--as", "a", "open"}), HasSubstr("which region?"));
  EXPECT_THAT(refused({"policy", "explain", "--as", "a", "opne", "x"}), HasSubstr("did you mean \"open\"?"));
}

TEST(StateText, SaysWhatPeopleCallIt) {
  RegionInfo region;
  region.state = RegionState::revoking;
  EXPECT_EQ(state_text(region), "revoking");
  region.draining = true;
  EXPECT_EQ(state_text(region), "draining") << "its holders may finish";
  region.draining = false;
  region.state = RegionState::draining;
  EXPECT_EQ(state_text(region), "revoked") << "nobody can read it any more, somebody has its pages";
  region.state = RegionState::live;
  EXPECT_EQ(state_text(region), "live");
}

TEST(CommandLine, AnEndpointIsWhatItsOptionsSay) {
  const auto create = command<EndpointCreateCommand>(
      {"endpoint", "create",   "readers",     "--names",       "models/**", "--names", "a/*", "--pool",
       "dram",     "--verbs",  "open,list",   "--rights",      "ro",        "--bytes", "1G",  "--regions",
       "2",        "--grants", "3",           "--connections", "4",         "--ttl",   "1h",  "--on-end",
       "keep",     "--label",  "namespace=db"});
  EXPECT_EQ(create.spec.id, "readers");
  EXPECT_EQ(create.spec.names, (std::vector<std::string>{"models/**", "a/*"}));
  EXPECT_EQ(create.spec.verbs, (std::vector<std::string>{"open", "list"}));
  EXPECT_EQ(create.spec.rights, Access::read_only);
  EXPECT_EQ(create.spec.limits, (Limits{1U << 30U, 2, 3, 4}));
  EXPECT_EQ(create.spec.ttl, std::chrono::hours(1));
  EXPECT_EQ(create.spec.on_end, OnEnd::keep);
  EXPECT_EQ(create.spec.labels, (std::vector<Label>{{"namespace", "db"}}));
  EXPECT_THAT(refused({"endpoint", "create", "e", "--label", "db"}), HasSubstr("write KEY=VALUE"));
  EXPECT_THAT(refused({"endpoint", "create", "e", "--on-end", "drop"}), HasSubstr("revoke, keep"));
  EXPECT_EQ(command<EndpointRenewCommand>({"endpoint", "renew", "e", "--ttl", "2h"}).ttl,
            std::chrono::hours(2));
  const auto run = command<EndpointRunCommand>({"endpoint", "run", "e", "--", "ls", "-l"});
  EXPECT_EQ(run.program, (std::vector<std::string>{"ls", "-l"}));
  EXPECT_THAT(refused({"endpoint", "run", "e"}), HasSubstr("what should be run?"));
}

}  // namespace
}  // namespace mapcap::cli
