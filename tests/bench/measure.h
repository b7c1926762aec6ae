// What several benchmarks need to say how much something took.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

namespace mapcap::bench {

/// `fraction` 0 is the least, 1 the most. `sorted` is not empty.
template <typename Number>
Number quantile(const std::vector<Number>& sorted, double fraction) {
  return sorted.at(static_cast<std::size_t>(fraction * static_cast<double>(sorted.size() - 1)));
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return quantile(values, 0.5);
}

/// Processor time that all threads of a process have used, in microseconds: what others do on the machine hardly
/// changes it. 0 when it is gone.
inline double processor_time(pid_t process) {
  double total = 0;
  std::error_code gone;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(process) + "/task", gone)) {
    std::ifstream schedstat(task.path() / "schedstat");
    double nanoseconds = 0;
    schedstat >> nanoseconds;
    total += nanoseconds / 1000;
  }
  return total;
}

inline double processor_time(const std::vector<pid_t>& processes) {
  double total = 0;
  for (const pid_t process : processes) total += processor_time(process);
  return total;
}

}  // namespace mapcap::bench
