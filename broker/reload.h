// SIGHUP: a new policy takes effect as a whole, or not at all.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "broker/door/listener.h"
#include "broker/regions/regions.h"
#include "broker/report/report.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"
#include "policy/policy.h"
#include "policy/subordinates.h"

namespace mapcap::broker {

/// Rules, quotas and timings change; what was opened at start does not: a file whose pools, socket or state
/// differ is refused, because they take a restart. Reports either way.
class Reload {
 public:
  struct Parts {
    Worker& accounts;  ///< Reads the file and asks for its names, for as long as a name service takes.
    Regions& regions;
    Listener& listener;
    Report& report;
  };
  struct Loaded {
    Result<std::shared_ptr<const policy::Policy>> policy;
    policy::Subordinates subordinates;
  };
  /// `path`: of the policy file; empty: the built-in default. `load`: on a thread.
  Reload(Parts parts, std::string path) : Reload(parts, path, [path] { return load(path); }) {}
  Reload(Parts parts, std::string path, std::function<Loaded()> load)
      : parts_(parts), path_(std::move(path)), load_(std::move(load)) {}
  Reload(const Reload&) = delete;
  Reload& operator=(const Reload&) = delete;

  /// Returns at once. While one is under way, another follows it: the file may have changed behind its back.
  void ask();

 private:
  static Loaded load(const std::string& path);
  Task<void> run();
  void take(Loaded loaded);

  Parts parts_;
  std::string path_;
  std::function<Loaded()> load_;
  bool running_ = false;
  bool again_ = false;
};

}  // namespace mapcap::broker
