// A progress bar on a terminal, and nothing where stderr is not one.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace mapcap::cli {

class ProgressBar {
 public:
  /// total: bytes to do, absent when nobody knows (a pipe).
  ProgressBar(std::string what, std::optional<std::uint64_t> total);
  /// Wipes the bar.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Redraws at most ten times a second.
  void update(std::uint64_t done);
  void set_total(std::uint64_t total) { total_ = total; }

 private:
  void draw(std::uint64_t done);

  std::string what_;
  std::optional<std::uint64_t> total_;
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point drawn_;
  bool terminal_;
  bool shown_ = false;
};

/// "attacking alice/frames: 120 of 240", for steps that are counted and not weighed.
class CountedBar {
 public:
  CountedBar(std::string what, std::size_t total);
  ~CountedBar();
  CountedBar(const CountedBar&) = delete;
  CountedBar& operator=(const CountedBar&) = delete;
  void step();

 private:
  std::string what_;
  std::size_t total_;
  std::size_t done_ = 0;
  bool terminal_;
};

/// "draining alice/frames: 12s of 30s" once a second, for work that reports nothing until it moves.
class WaitingLine {
 public:
  /// limit: 0 for none.
  WaitingLine(std::string what, std::chrono::nanoseconds limit);
  ~WaitingLine();
  WaitingLine(const WaitingLine&) = delete;
  WaitingLine& operator=(const WaitingLine&) = delete;
  /// Ends and wipes it. Idempotent.
  void stop();

 private:
  std::mutex mutex_;
  std::condition_variable stopping_;
  bool stopped_ = false;
  std::thread drawer_;
};

}  // namespace mapcap::cli
