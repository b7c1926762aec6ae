// What people type, and what the command says to it.
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using testing::HasSubstr;

class CommandLineTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker_.start();
  }
  CommandResult run(std::vector<std::string> arguments) { return mapcap(broker_, std::move(arguments)); }

  BrokerProcess broker_;
};

TEST_F(CommandLineTest, AListOfAGlobThatNoNameMatchesIsRefused) {
  for (const char* glob : {"[", "/a", "hu1/", "a//b", "a/./b"}) {
    const CommandResult listed = run({"list", glob});
    EXPECT_EQ(listed.status, 1) << glob;
    EXPECT_EQ(listed.out, "") << glob;
    EXPECT_THAT(listed.err, HasSubstr("matches no name")) << glob;
  }
  EXPECT_THAT(run({"list", "hu1/"}).err, HasSubstr("did you mean \"hu1/**\"?"));
}

TEST_F(CommandLineTest, AListThatFindsNothingSaysSoAndWhereItMayBe) {
  ASSERT_EQ(run({"create", "hu1/a", "--size", "4K"}).status, 0);
  const CommandResult listed = run({"list", "hu1"});
  EXPECT_EQ(listed.status, 0);
  EXPECT_THAT(listed.err, HasSubstr("nothing that you may see matches hu1; did you mean hu1/**?"));
  const CommandResult other = run({"--json", "list", "hu2"});
  EXPECT_EQ(other.out, "[]\n");
  EXPECT_EQ(other.err, "mapcap: nothing that you may see matches hu2\n");
  EXPECT_EQ(run({"list", "hu1/**"}).err, "");
}

TEST_F(CommandLineTest, ACheckForProgramsIsAListOfAllProblems) {
  const std::string file = broker_.directory() + "/wrong.toml";
  std::ofstream(file) << "[pool.dram]\nbacking = \"memroy\"\ncapacity = \"1M\"\n";
  const CommandResult wrong = run({"--json", "policy", "check", file});
  EXPECT_EQ(wrong.status, 1);
  EXPECT_EQ(wrong.out,
            "[{\"file\":\"" + file +
                "\",\"line\":2,\"column\":11,\"severity\":\"error\",\"message\":\"[pool.dram]: backing "
                "\\\"memroy\\\" is not one of memory, dax-file, dax-device, pci-bar; did you mean "
                "\\\"memory\\\"?\"}]\n");
  std::ofstream(file) << "[pool.dram]\nbacking = \"memory\"\ncapacity = \"1M\"\n";
  const CommandResult odd = run({"--json", "policy", "check", file});
  EXPECT_EQ(odd.status, 0);
  EXPECT_THAT(odd.out, HasSubstr("\"severity\":\"warning\",\"message\":\"policy: there is no rule"));
  std::ofstream(file) << "[pool.dram]\nbacking = \"memory\"\ncapacity = \"1M\"\n[[rule]]\nadministrator = true\n";
  EXPECT_EQ(run({"--json", "policy", "check", file}).out, "[]\n");
  EXPECT_EQ(run({"policy", "check", file}).out, file + " is valid: 1 pool, 1 rule, 0 quotas\n");
}

TEST_F(CommandLineTest, AnErrorForProgramsIsAlwaysAnObject) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--json", "lst"},
                                             {"lst", "--json"},
                                             {"--json", "create", "x", "--size", "foo"},
                                             {"--json", "create"},
                                             {"--json"}}) {
    const CommandResult wrong = run(arguments);
    EXPECT_EQ(wrong.status, 2) << arguments.back();
    EXPECT_THAT(wrong.out, testing::StartsWith("{\"error\":{\"code\":\"invalid\",\"sentence\":\""))
        << arguments.back();
    EXPECT_THAT(wrong.err, testing::StartsWith("mapcap: ")) << arguments.back();
  }
  EXPECT_EQ(run({"lst"}).err, "mapcap: there is no command \"lst\"; did you mean \"list\"?\n");
  EXPECT_EQ(run({"lst"}).out, "");
}

TEST_F(CommandLineTest, AProgramThatCannotBeRunGivesTheExitCodesOfEnv) {
  ASSERT_EQ(run({"create", "root/a", "--size", "4K"}).status, 0);
  const CommandResult missing = run({"run", "root/a", "--", "/nonexistent/program"});
  EXPECT_EQ(missing.status, 127);
  EXPECT_EQ(missing.err, "mapcap: running /nonexistent/program: No such file or directory\n");
  EXPECT_EQ(run({"run", "root/a", "--", "/etc/passwd"}).status, 126);
  EXPECT_EQ(run({"run", "root/a", "--", "sh", "-c", "exit 7"}).status, 7);
}

TEST_F(CommandLineTest, ASocketThatMayNotBeLookedAtIsTheLibrarysSentence) {
  const std::string closed = broker_.directory() + "/closed";
  ASSERT_EQ(::mkdir(closed.c_str(), 0700), 0);
  const CommandResult refused =
      run_command({MAPCAP_PATH, "--json", "--socket", closed + "/mapcap.sock", "list"}, {}, 65534);
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.out, testing::StartsWith("{\"error\":"));
  EXPECT_THAT(refused.err, HasSubstr(closed + "/mapcap.sock"));
  EXPECT_THAT(refused.err, testing::Not(HasSubstr("filesystem error")));
}

TEST_F(CommandLineTest, ADoctorWithoutABrokerSaysThatItIsMissing) {
  const CommandResult told =
      run_command({MAPCAP_PATH, "--json", "--socket", "/nonexistent/mapcap.sock", "doctor"});
  EXPECT_THAT(told.out, testing::ContainsRegex("\"fact\":\"broker\",\"state\":\"missing\""));
}

TEST_F(CommandLineTest, ALifetimeThatIsADurationIsToldHow) {
  const CommandResult refused = run({"create", "root/a", "--size", "4K", "--lifetime", "1h"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.err, HasSubstr("write ttl:1h"));
}

// ---- dump

TEST_F(CommandLineTest, ADumpReplacesItsFileOnlyWhenItIsComplete) {
  ASSERT_EQ(run({"create", "root/a", "--size", "64K"}).status, 0);
  const std::string file = broker_.directory() + "/out.bin";
  ASSERT_EQ(run({"dump", "root/a", file}).status, 0);
  EXPECT_EQ(std::filesystem::file_size(file), 65536U);
  std::ofstream(file) << "before";
  ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
  const std::string link = broker_.directory() + "/link.bin";
  std::filesystem::create_symlink("out.bin", link);
  ASSERT_EQ(run({"dump", "root/a", link, "--bytes", "4K"}).status, 0);
  EXPECT_EQ(std::filesystem::file_size(file), 4096U);
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  struct stat kept {};
  ASSERT_EQ(::stat(file.c_str(), &kept), 0);
  EXPECT_EQ(kept.st_mode & 0777U, 0600U);
}

TEST_F(CommandLineTest, ADumpIntoAFullFilesystemLeavesNothingAndWhatWasThere) {
  const std::string disk = broker_.directory() + "/disk";
  ASSERT_EQ(::mkdir(disk.c_str(), 0700), 0);
  ASSERT_EQ(::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k"), 0);
  std::ofstream(disk + "/out.bin") << "before";
  EXPECT_EQ(run({"create", "root/a", "--size", "1M"}).status, 0);
  const CommandResult full = run({"dump", "root/a", disk + "/out.bin"});
  EXPECT_EQ(full.status, 1);
  EXPECT_THAT(full.err, HasSubstr("No space left"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(disk), {}), 1);
  EXPECT_EQ(std::filesystem::file_size(disk + "/out.bin"), 6U);
  EXPECT_EQ(::umount(disk.c_str()), 0);
}

TEST(DumpTest, OfASecretPoolAsksForWhatItCanGrant) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  if (::syscall(SYS_memfd_secret, 0) < 0) GTEST_SKIP() << "this kernel has no secret memory";
  BrokerProcess broker(
      "[pool.secret]\nbacking = \"memory\"\ncapacity = \"1M\"\nsecret = true\n[[rule]]\nany = true\n");
  broker.start();
  ASSERT_EQ(mapcap(broker, {"create", "root/s", "--size", "4K"}).status, 0);
  const CommandResult dumped = mapcap(broker, {"dump", "root/s", broker.directory() + "/out.bin"});
  EXPECT_EQ(dumped.status, 0) << dumped.err;
}

// ---- a client's name

TEST_F(CommandLineTest, AProgramWhoseFileNameIsNoUtf8Connects) {
  ConnectOptions options;
  options.program = "odd\xff\xfe" + std::string(61, 'x') + "\xc3\xa4";
  EXPECT_NO_THROW((void)broker_.connect(options).list());
}

}  // namespace
}  // namespace mapcap::test
