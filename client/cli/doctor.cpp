#include "client/cli/doctor.h"

#include <iostream>

#include "base/machine/machine.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/table.h"
#include "client/cli/terminal.h"
#include "client/raise.h"
#include "mapcap/client.h"
#include "mapcap/error.h"
#include "policy/load/loader.h"
#include "policy/peer_label.h"
#include "schema/channel.h"

namespace mapcap::cli {
namespace {

enum class Need : std::uint8_t { default_policy, some_pools };

Finding finding(std::string fact, const machine::Fact& probed, Need need) {
  FindingState state = FindingState::unknown;
  if (probed.presence == machine::Presence::present) state = FindingState::ok;
  if (probed.presence == machine::Presence::missing) state = FindingState::missing;
  return {std::move(fact), state, probed.found, probed.remedy, need == Need::default_policy};
}

/// What broker/confine/lsm was built from; the daemon beside this program.
constexpr std::string_view kMissingAtBuild = MAPCAP_BPF_MISSING;

machine::Fact bpf_lsm() {
  if (kMissingAtBuild.empty()) return machine::bpf_lsm();
  return {machine::Presence::missing, "not built in: no " + std::string(kMissingAtBuild),
          "install " + std::string(kMissingAtBuild) + " and build mapcapd again"};
}

/// Whether each pool of the default policy would be confined.
bool confined(const policy::ConfinementFacts& facts) {
  return policy::unconfined(value_or_raise(policy::load_default())->pools(), facts).empty();
}

std::string socket_of(const Common& common) {
  return common.socket.empty() ? default_socket() : common.socket;
}

/// What the broker read back from the kernel when it opened its pools.
Finding cache_modes(Client& client) {
  std::string verified;
  std::string unverified;
  try {
    for (const PoolInfo& pool : client.pools()) {
      std::string& list = pool.cache_verified ? verified : unverified;
      list += (list.empty() ? "" : ", ") + pool.name;
      for (const CacheMode mode : pool.cache_modes) list += " " + std::string(to_string(mode));
    }
  } catch (const Error& error) {
    return {"cache modes", FindingState::unknown, error.what(), "ask as a user who may list pools", false};
  }
  if (unverified.empty()) return {"cache modes", FindingState::ok, "verified: " + verified, {}, false};
  return {"cache modes", FindingState::unknown,
          "not verified: " + unverified + (verified.empty() ? "" : "; verified: " + verified),
          "mapcapd reads them from the page table with a BPF program, which this kernel or build does not "
          "take",
          false};
}

void add_running_broker(const Common& common, std::vector<Finding>& findings) {
  ConnectOptions options;
  options.socket = common.socket;
  options.deadline = std::chrono::seconds(2);
  const std::string path = socket_of(common);
  try {
    Client client = Client::connect(options);
    findings.push_back({"broker", FindingState::ok, client.broker() + " answers at " + path, {}, false});
    findings.push_back(cache_modes(client));
  } catch (const Error& error) {
    if (error.code() == ErrorCode::unavailable) {
      findings.push_back({"broker", FindingState::missing, error.what(),
                          "start mapcapd, or name its socket with --socket or MAPCAP_SOCKET", false});
      return;
    }
    findings.push_back({"broker", FindingState::missing, error.what(),
                        "somebody is at the socket and does not serve you; see the broker's log, or stop it",
                        false});
  }
}

/// What a rule may deny by (policy/place.h).
Finding peers_cgroups() {
  const std::string fact = "peers' cgroups told";
  if (policy::kernel_tells_cgroups())
    return {fact, FindingState::ok, "SO_PEERPIDFD tells which process a peer is", {}, false};
  return {fact, FindingState::missing, "this kernel has no SO_PEERPIDFD",
          "Linux 6.5 has it; until then a policy that denies by unit or cgroup is refused", false};
}

}  // namespace

std::string_view to_string(FindingState state) {
  switch (state) {
    case FindingState::ok:
      return "ok";
    case FindingState::missing:
      return "missing";
    case FindingState::unknown:
      break;
  }
  return "unknown";
}

policy::ConfinementFacts confinement_facts() {
  const auto why_not = [](const machine::Fact& fact) {
    return fact.presence == machine::Presence::missing ? fact.found : std::string();
  };
  policy::ConfinementFacts facts{why_not(machine::fuse_passthrough()), why_not(bpf_lsm()),
                                 machine::cachestat()};
  if (facts.no_clones.empty()) facts.no_clones = why_not(machine::append_flag());
  return facts;
}

std::vector<Finding> examine(const Common& common, const DoctorCommand& command) {
  policy::ConfinementFacts without_clones = confinement_facts();
  without_clones.no_clones = "left out";
  const Need clones = confined(without_clones) ? Need::some_pools : Need::default_policy;
  std::vector<Finding> findings{
      finding("kernel", machine::kernel(), Need::default_policy),
      finding("privileges", machine::administrator(), Need::default_policy),
      finding("clones: FUSE passthrough", machine::fuse_passthrough(), clones),
      finding("clones: append flag", machine::append_flag(), clones),
      finding("state directory", machine::state_directory(command.state), Need::default_policy),
      finding("socket path", machine::socket_path(socket_of(common)), Need::default_policy),
      finding("descriptors", machine::descriptor_limit(), Need::some_pools),
      finding("peers' descriptors refused", machine::refuses_descriptors(), Need::some_pools),
      peers_cgroups(),
      finding("confinement lsm: BPF LSM", bpf_lsm(), Need::some_pools),
      finding("secret memory: memfd_secret", machine::memfd_secret(), Need::some_pools),
      finding("memory accounting", machine::memory_accounting(), Need::some_pools),
      finding("huge pages", machine::huge_pages(), Need::some_pools),
      finding("NUMA", machine::numa(), Need::some_pools),
  };
  add_running_broker(common, findings);
  return findings;
}

int perform(const Common& common, const DoctorCommand& command) {
  const std::vector<Finding> findings = examine(common, command);
  bool served = true;
  for (const Finding& finding : findings) {
    if (finding.needed && finding.state == FindingState::missing) served = false;
  }
  if (common.json) {
    std::cout << json(findings) << '\n';
    return served ? 0 : 1;
  }
  Table table({{"FACT"}, {"STATE"}, {"FOUND"}});
  for (const Finding& finding : findings)
    table.add({finding.fact, std::string(to_string(finding.state)), finding.found});
  table.print(std::cout);
  std::cout << '\n';
  for (const Finding& finding : findings) {
    if (finding.state != FindingState::ok)
      std::cout << fitted(
          finding.fact + ": " + finding.remedy + (finding.needed ? " (the default policy needs it)" : ""),
          terminal_width());
  }
  std::cout << (served ? "mapcapd can serve the default policy here\n"
                       : "mapcapd cannot serve the default policy here\n");
  return served ? 0 : 1;
}

}  // namespace mapcap::cli
