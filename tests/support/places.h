// A procfs and a cgroup hierarchy of a test's own, as far as Reservation and machine read them.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace mapcap::test {

class FakePlaces {
 public:
  FakePlaces() {
    std::string pattern = "/tmp/mapcap-places.XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "mkdtemp";
    root_ = pattern;
    // Of a machine with much room and without limits; what a test is about it writes over.
    write("proc/sys/vm/overcommit_memory", "0\n");
    write("proc/meminfo",
          "MemTotal:       16777216 kB\nMemAvailable:   12582912 kB\nSwapFree:              0 kB\n"
          "CommitLimit:     8388608 kB\nCommitted_AS:    1048576 kB\n");
    write("proc/self/cgroup", "0::/\n");
  }
  ~FakePlaces() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  FakePlaces(const FakePlaces&) = delete;
  FakePlaces& operator=(const FakePlaces&) = delete;

  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  [[nodiscard]] std::string proc() const { return root_ + "/proc"; }
  [[nodiscard]] std::string cgroups() const { return root_ + "/cgroup"; }

 private:
  std::string root_;
};

}  // namespace mapcap::test
