// Samples in the text format that Prometheus scrapes (Exposition formats, version 0.0.4).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace mapcap::cli {

class Exposition {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  /// Samples that follow are of this one. All are gauges. `help` is one line.
  void family(std::string name, std::string help);
  void sample(Labels labels, std::uint64_t value);

  /// A family without samples is left out.
  [[nodiscard]] std::string text() const;
  /// An array of {name, labels, value}, and a newline.
  [[nodiscard]] std::string json() const;

 private:
  struct Sample {
    Labels labels;
    std::uint64_t value;
  };
  struct Family {
    std::string name;
    std::string help;
    std::vector<Sample> samples;
  };
  std::vector<Family> families_;
};

}  // namespace mapcap::cli
