// A file that decides over others: nobody else may change it, or put another in its place.
#include "base/trusted_path.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace mapcap {
namespace {

constexpr uid_t kSomebody = 65534;

class TrustedPath : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it gives files to others";
    std::string pattern = "/tmp/mapcap-trusted.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    top_ = pattern;
    directory_ = top_ + "/middle/below";
    std::filesystem::create_directories(directory_);
    for (const std::string& made : {top_ + "/middle", directory_}) ::chmod(made.c_str(), 0755);
    file_ = directory_ + "/policy.toml";
    std::ofstream(file_) << "text";
    ::chmod(file_.c_str(), 0644);
  }
  void TearDown() override {
    if (!top_.empty()) std::filesystem::remove_all(top_);
  }
  /// Empty: it is taken.
  static std::string why_not(const std::string& path, uid_t owner = 0) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const Result<void> checked = check_trusted_file(file.borrow(), path, owner);
    return checked ? "" : checked.error().sentence;
  }

  std::string top_;
  std::string directory_;
  std::string file_;
};

TEST_F(TrustedPath, OnesOwnIsTakenInAStickyTmpToo) {
  EXPECT_EQ(why_not(file_), "");
}

TEST_F(TrustedPath, AnothersFileIsNotTakenUnlessHeIsTheOneThatMayOwnIt) {
  ASSERT_EQ(::chown(file_.c_str(), kSomebody, 0), 0);
  EXPECT_EQ(why_not(file_),
            file_ + " belongs to user 65534, who could change it; it must belong to root: chown it");
  EXPECT_EQ(why_not(file_, kSomebody), "");
}

TEST_F(TrustedPath, AFileThatItsGroupOrEverybodyMayWriteIsNotTaken) {
  ::chmod(file_.c_str(), 0664);
  EXPECT_EQ(why_not(file_), file_ + " may be written by group 0: chmod g-w it");
  ::chmod(file_.c_str(), 0646);
  EXPECT_EQ(why_not(file_), file_ + " may be written by everybody: chmod o-w it");
}

TEST_F(TrustedPath, NorIsOneBelowADirectoryThatOthersOwnOrMayWrite) {
  for (const std::string& directory : {directory_, top_ + "/middle"}) {
    ::chmod(directory.c_str(), 0775);
    EXPECT_NE(why_not(file_).find("the directory " + directory + " may be written by others"),
              std::string::npos)
        << why_not(file_);
    ::chmod(directory.c_str(), 01777);
    EXPECT_EQ(why_not(file_), "") << "only owners rename in a sticky directory";
    ::chmod(directory.c_str(), 0755);
    ASSERT_EQ(::chown(directory.c_str(), kSomebody, 0), 0);
    EXPECT_NE(why_not(file_).find("the directory " + directory + " belongs to user 65534"),
              std::string::npos);
    ASSERT_EQ(::chown(directory.c_str(), 0, 0), 0);
  }
  EXPECT_EQ(why_not(file_), "");
}

TEST_F(TrustedPath, ALinkIsAsGoodAsTheDirectoriesThatItLiesInAndLeadsTo) {
  const std::string shelf = top_ + "/shelf";
  std::filesystem::create_directory(shelf);
  ::chmod(shelf.c_str(), 0755);
  const std::string link = shelf + "/link.toml";
  std::filesystem::create_symlink(file_, link);
  EXPECT_EQ(why_not(link), "");
  ::chmod(shelf.c_str(), 0777);
  EXPECT_NE(why_not(link), "") << "whoever turns the link decides";
  ::chmod(shelf.c_str(), 0755);
  ::chmod(directory_.c_str(), 0777);
  EXPECT_NE(why_not(link), "");
}

// Each link that is followed, and each directory that a link leads through, decides as well.
TEST_F(TrustedPath, ALinkThatGoesThroughAStrangersDirectoryIsNotTaken) {
  const std::string strangers = top_ + "/strangers";
  std::filesystem::create_directory(strangers);
  ::chmod(strangers.c_str(), 0755);
  std::filesystem::create_symlink("../middle/below", strangers + "/inner");
  std::filesystem::create_symlink(strangers + "/inner/policy.toml", top_ + "/by-target.toml");
  std::filesystem::create_symlink("strangers", top_ + "/shelf");
  const std::string through_target = top_ + "/by-target.toml";
  const std::string through_component = top_ + "/shelf/inner/policy.toml";
  EXPECT_EQ(why_not(through_target), "");
  EXPECT_EQ(why_not(through_component), "");
  ASSERT_EQ(::chown(strangers.c_str(), kSomebody, 0), 0);
  for (const std::string& path : {through_target, through_component}) {
    EXPECT_NE(why_not(path).find("the directory " + strangers + " belongs to user 65534"), std::string::npos)
        << why_not(path);
    EXPECT_EQ(why_not(path, kSomebody), "");
  }
  EXPECT_EQ(why_not(file_), "") << "by its own name it is as good as before";
}

TEST_F(TrustedPath, AStrangersLinkInAStickyDirectoryIsNotTaken) {
  const std::string sticky = top_ + "/sticky";
  std::filesystem::create_directory(sticky);
  ::chmod(sticky.c_str(), 01777);
  const std::string link = sticky + "/link.toml";
  std::filesystem::create_symlink(file_, link);
  EXPECT_EQ(why_not(link), "");
  ASSERT_EQ(::lchown(link.c_str(), kSomebody, 0), 0);
  EXPECT_EQ(why_not(link), "the link " + link +
                               " belongs to user 65534, who could turn it elsewhere; it must belong to root: "
                               "make it anew, or name what it leads to");
}

TEST_F(TrustedPath, ADirectoryIsJudgedByTheWayToItToo) {
  const std::string strangers = top_ + "/strangers";
  std::filesystem::create_directory(strangers);
  ::chmod(strangers.c_str(), 0755);
  std::filesystem::create_symlink(directory_, strangers + "/link");
  const auto why_not_directory = [](const std::string& path) -> std::string {
    const Fd directory(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    const Result<void> checked = check_trusted_directory(directory.borrow(), path, 0);
    return checked ? "" : checked.error().sentence;
  };
  EXPECT_EQ(why_not_directory(strangers + "/link"), "");
  EXPECT_EQ(why_not_directory(strangers + "/link/../below/./"), "");
  ASSERT_EQ(::chown(strangers.c_str(), kSomebody, 0), 0);
  EXPECT_EQ(why_not_directory(directory_), "");
  EXPECT_NE(why_not_directory(strangers + "/link"), "");
  EXPECT_NE(why_not_directory(strangers + "/link/../below"), "");
}

TEST_F(TrustedPath, ALoopOfLinksEnds) {
  const Fd file(::open(file_.c_str(), O_RDONLY | O_CLOEXEC));
  std::filesystem::create_symlink("loop", top_ + "/loop");
  EXPECT_FALSE(check_trusted_file(file.borrow(), top_ + "/loop", 0));
  EXPECT_FALSE(check_trusted_file(file.borrow(), file_ + "/below", 0));
}

TEST_F(TrustedPath, AFileThatWasMovedAwayMeanwhileIsNotTaken) {
  const Fd file(::open(file_.c_str(), O_RDONLY | O_CLOEXEC));
  std::filesystem::remove(file_);
  EXPECT_FALSE(check_trusted_file(file.borrow(), file_, 0));
}

}  // namespace
}  // namespace mapcap
