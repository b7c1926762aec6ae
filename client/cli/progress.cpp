#include "client/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/units.h"
#include "client/cli/terminal.h"
#include "client/cli/text.h"

namespace mapcap::cli {
namespace {

constexpr std::size_t kBarWidth = 30;
constexpr std::chrono::milliseconds kRedraw{100};
// Back to the start of the line and erase it.
constexpr const char* kWipe = "\r\033[K";

bool on_terminal() {
  return ::isatty(STDERR_FILENO) == 1;
}

// A line that the terminal wraps cannot be wiped: the name gives way to what moves, and both to the edge.
void show(const std::string& what, const std::string& moves) {
  const std::size_t width = terminal_width(STDERR_FILENO);
  if (width == 0) {
    std::fputs((kWipe + what + moves).c_str(), stderr);
    return;
  }
  const std::size_t room = width - 1;
  const std::string end = moves.size() > room ? moves.substr(0, room) : moves;
  const std::string beginning = end.size() + 8 > room ? std::string() : shortened(what, room - end.size());
  std::fputs((kWipe + beginning + end).c_str(), stderr);
}

}  // namespace

ProgressBar::ProgressBar(std::string what, std::optional<std::uint64_t> total)
    : what_(std::move(what)),
      total_(total),
      started_(std::chrono::steady_clock::now()),
      terminal_(on_terminal()) {}

ProgressBar::~ProgressBar() {
  if (shown_) std::fputs(kWipe, stderr);
}

void ProgressBar::update(std::uint64_t done) {
  if (!terminal_) return;
  const auto now = std::chrono::steady_clock::now();
  if (shown_ && now - drawn_ < kRedraw) return;
  drawn_ = now;
  draw(done);
}

void ProgressBar::draw(std::uint64_t done) {
  const double seconds = std::chrono::duration<double>(drawn_ - started_).count();
  std::string line;
  if (total_ && *total_ > 0) {
    const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(*total_));
    const auto full = static_cast<std::size_t>(part * static_cast<double>(kBarWidth));
    line += '[' + std::string(full, '#') + std::string(kBarWidth - full, ' ') + "] " +
            std::to_string(static_cast<int>(part * 100)) + "%  " + size_text(done) + " of " +
            size_text(*total_);
  } else {
    line += size_text(done);
  }
  if (seconds > 0.2)
    line += "  " + size_text(static_cast<std::uint64_t>(static_cast<double>(done) / seconds)) + "/s";
  show(what_, "  " + line);
  shown_ = true;
}

CountedBar::CountedBar(std::string what, std::size_t total)
    : what_(std::move(what)), total_(total), terminal_(on_terminal()) {}

CountedBar::~CountedBar() {
  if (terminal_) std::fputs(kWipe, stderr);
}

void CountedBar::step() {
  ++done_;
  if (terminal_) show(what_, ": " + std::to_string(done_) + " of " + std::to_string(total_));
}

WaitingLine::WaitingLine(std::string what, std::chrono::nanoseconds limit) {
  if (!on_terminal()) return;
  drawer_ = std::thread([this, what = std::move(what), limit] {
    std::unique_lock lock(mutex_);
    for (std::chrono::seconds waited{0}; !stopped_; ++waited) {
      std::string line = ": " + format_duration(waited);
      if (limit.count() > 0) line += " of " + format_duration(limit);
      show(what, line);
      stopping_.wait_for(lock, std::chrono::seconds(1), [this] { return stopped_; });
    }
    std::fputs(kWipe, stderr);
  });
}

WaitingLine::~WaitingLine() {
  stop();
}

void WaitingLine::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  stopping_.notify_all();
  if (drawer_.joinable()) drawer_.join();
}

}  // namespace mapcap::cli
