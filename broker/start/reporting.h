// What is told while the broker runs, on its loop's time: events to the log, decisions to the audit.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "broker/report/audit.h"
#include "broker/report/audit_outlets.h"
#include "broker/report/report.h"
#include "broker/wait/loop.h"
#include "broker/wait/time_source.h"

namespace mapcap::broker {

struct Reporting {
  /// Both outlive this.
  Reporting(Loop& loop, const TimeSource& time)
      : audit(
            *outlet,
            [this, &loop](Audit::Time delay, std::function<void()> work) {
              counted = loop.after(delay, std::move(work));
            },
            [&time] { return time.now(); }) {
    report.use_time([&time] { return time.now(); },
                    [this, &loop](std::chrono::nanoseconds delay, std::function<void()> work) {
                      repeats = loop.after(delay, std::move(work));
                    });
  }
  Reporting(const Reporting&) = delete;
  Reporting& operator=(const Reporting&) = delete;

  LogReport report;
  Loop::Timer repeats;  ///< What is told as a number, later.
  Loop::Timer counted;
  std::unique_ptr<AuditOutlet> outlet = make_audit_outlet();
  Audit audit;
};

}  // namespace mapcap::broker
