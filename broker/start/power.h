// Who has the machine's power once the broker serves: its mint, so that whatever reads clients' bytes has none; or the
// broker itself, where the policy asks for what no mint does.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "broker/assembly.h"
#include "broker/config.h"
#include "broker/door/endpoint_directory.h"
#include "broker/keeper/forge.h"
#include "broker/keeper/keeper.h"
#include "broker/mint/link.h"
#include "broker/report/report.h"
#include "broker/sandbox/sandbox.h"
#include "broker/wait/loop.h"
#include "broker/wait/worker.h"
#include "policy/accounts.h"

namespace mapcap::broker {

class Power {
 public:
  /// Looks what there is, and forks the mint, if one is to have it: first, while there is nothing that it could inherit.
  /// Errors: `denied` for want of privileges; of mint::Link::start.
  static Result<Power> of_this_process(const Config& config);

  /// Gives up what is not needed from here on, for good. Of a broker whose mint has the power that is all of it, and every
  /// path but its state directory, its sockets and what the kernel tells. Before any thread exists. Errors: `io`,
  /// `unsupported`, with what to do.
  Result<void> give_up(const Config& config, keeper::Keeper& keeper);

  /// Reports when the mint is replaced, and ends the broker when nobody is left who could replace it. Starts a thread.
  void watch(Loop& loop, Report& report);

  /// Ends the mint and its heir.
  void end() { mint_.reset(); }

  // How others get what takes power. Null and empty: this process does it itself. From give_up() on, but for the forge.

  [[nodiscard]] std::shared_ptr<keeper::Forge> forge() const;
  /// `worker` is what they wait on.
  [[nodiscard]] PoolPower for_pools(Worker& worker) const;
  [[nodiscard]] EndpointDirectory::Mounter mounter() const;
  [[nodiscard]] std::function<Result<std::string>()> policy_reader() const;

  /// The filter of system calls that suits what is left.
  [[nodiscard]] sandbox::Role role() const {
    return confined_ ? sandbox::Role::confined : sandbox::Role::powerful;
  }
  /// Whether other users' processes may be ended, because the policy has a pool that ends its holders.
  [[nodiscard]] bool may_kill() const { return ends_holders_ == sandbox::EndsHolders::yes; }

 private:
  Power() = default;

  std::unique_ptr<mint::Link> mint_;
  std::unique_ptr<policy::NameService> names_;  ///< The mint's.
  sandbox::EndsHolders ends_holders_ = sandbox::EndsHolders::no;
  bool confined_ = false;  ///< The power is the mint's alone.
};

}  // namespace mapcap::broker
