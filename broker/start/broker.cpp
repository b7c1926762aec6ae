#include "broker/start/broker.h"

#include <systemd/sd-daemon.h>

#include <csignal>
#include <utility>

#include "broker/parts.h"
#include "policy/accounts.h"

namespace mapcap::broker {
namespace {

/// Records in pools that the policy no longer has would be charged to nobody and served by nobody.
Result<void> check_pools_of(const std::vector<ledger::RegionRecord>& records, const ServedPools& pools) {
  for (const ledger::RegionRecord& record : records) {
    if (record.state == RegionState::lost || find_pool(pools, record.pool) != nullptr) continue;
    return failure(
        ErrorCode::invalid,
        "region " + record.name + " lies in pool " + record.pool +
            ", which the policy does not have: put the pool back, revoke what is in it, then remove it");
  }
  return ok();
}

std::vector<std::uint32_t> groups_by_accounts(std::uint32_t uid) {
  const std::optional<policy::Account> account = policy::find_account(uid);
  return account ? policy::groups_of(*account) : std::vector<std::uint32_t>();
}

Listener::Limits limits_of(const policy::BrokerSettings& settings) {
  return {settings.max_connections, settings.max_connections_per_user};
}

}  // namespace

Broker::Broker(Parts parts, ListeningSocket socket, foreign::ExaminerProcess examiner,
               const policy::Subordinates& subordinates)
    : parts_(parts),
      custody_(parts.keeper, parts.workers.work),
      examiner_(parts.loop, parts.workers.work, std::move(examiner)),
      clones_(parts.keeper, quotas_, examiner_),
      gate_(parts.loop),
      names_(parts.loop, parts.workers.accounts),
      listener_({parts.loop, gate_, parts.reporting.report, parts.reporting.audit, quotas_, names_,
                 parts.workers.labels, examiner_},
                std::move(socket), limits_of(parts.config.policy->broker())),
      regions_({parts.loop, parts.workers.work, parts.workers.scrubber, parts.workers.prober,
                parts.workers.sealer, directory_, quotas_, parts.ledger, parts.keeper, custody_, listener_,
                parts.reporting.report, clock_, parts.boot, parts.pools},
               parts.config.policy),
      reload_({parts.loop, parts.workers.accounts, parts.workers.work, parts.workers.scrubber, regions_,
               quotas_, parts.keeper, parts.reporting.report, parts.pools,
               [&confiners = parts.confiners, identity = parts.ledger.identity()](
                   const policy::PoolSettings& settings) { return open_pool(settings, confiners, identity); },
               [this](const policy::BrokerSettings& settings) { listener_.set_limits(limits_of(settings)); },
               parts.power.may_kill(), parts.power.policy_reader()},
              parts.config.policy_path, parts.config.policy_text),
      endpoints_({parts.loop, parts.workers.accounts, regions_, quotas_, parts.ledger, listener_,
                  parts.reporting.report, clock_, parts.boot, parts.pools, parts.reporting.audit, custody_,
                  parts.keeper},
                 EndpointDirectory(parts.config.socket, parts::refuse_descriptors, parts.power.mounter())),
      end_({parts.loop, parts.reporting.report, listener_, endpoints_, parts.keeper, parts.ledger}),
      service_({regions_, directory_, parts.keeper, custody_, parts.ledger, parts.pools, listener_, clock_},
               [this](ServiceVerbs::Keeper becomes) { end_.begin(becomes); }),
      dispatch_(regions_, quotas_, parts.ledger, parts.pools, clones_, listener_, parts.reporting.audit,
                service_, reload_, endpoints_),
      releases_(parts.loop, {[this](confine::GrantId grant) -> Meter::Account {
                               std::optional<std::uint32_t> holder = regions_.holder_of(grant);
                               if (!holder) holder = clones_.holder_of(grant);
                               if (!holder) return std::nullopt;
                               return quotas_.account_of(*holder);
                             },
                             [this](confine::GrantId grant) {
                               (void)(regions_.released(grant) || clones_.released(grant));
                             }}) {
  for (const auto& served : parts_.pools)
    quotas_.add_pool(served->facts().name, served->facts().capacity.value);
  if (parts_.store != nullptr) custody_.use(*parts_.store);
  regions_.set_subordinates(subordinates);
  listener_.set_handler(dispatch_);
  connect_keeper();
}

void Broker::connect_keeper() {
  parts_.keeper.on_release([this](confine::GrantId grant) { releases_.add(grant); },
                           [this] { releases_.take(); });
  parts_.keeper.on_ended([this](const std::string& how) { parts_.reporting.report.keeper_ended(how); });
  parts_.keeper.on_replaced([this] {
    clones_.forget_all();
    regions_.keeper_replaced();
  });
}

Result<void> Broker::take_over(std::vector<keeper::HeldMemory> stored) {
  ledger::Recovered recovered = parts_.ledger.take_recovered();
  MAPCAP_TRY_VOID(check_pools_of(recovered.regions, parts_.pools));
  for (const ledger::QuotaRecord& record : recovered.quotas) quotas_.set_override(record);
  endpoints_.learn(std::move(recovered.endpoints), recovered.regions);
  Regions::Inheritance inheritance;
  inheritance.records = std::move(recovered.regions);
  inheritance.damaged = recovered.damaged;
  inheritance.memory = std::move(stored);
  for (keeper::HeldMemory& held : parts_.keeper.take_held()) inheritance.memory.push_back(std::move(held));
  endpoints_.take_sockets(inheritance.memory);
  inheritance.grants = parts_.keeper.take_live_grants();
  // The ledger says whose a charge is, not in which groups he is.
  quotas_.set_memberships(groups_by_accounts);
  for (const confine::LiveGrant& grant : inheritance.grants) clones_.restore(grant);
  regions_.recover(std::move(inheritance));
  quotas_.set_memberships({});
  return ok();
}

void Broker::begin(Result<AccountChanges> changes) {
  if (changes) {
    const auto take = [this](const policy::Subordinates& found) { regions_.set_subordinates(found); };
    lent_uids_.emplace(LentUids::Parts{parts_.loop, parts_.workers.accounts, take},
                       std::move(changes.value()));
    lent_uids_->start();
  } else {
    parts_.reporting.report.lent_uids_unwatched(changes.error());
  }
  parts_.loop.on_signal({SIGTERM, SIGINT, SIGHUP}, [this](int number) {
    if (number == SIGHUP) return reload_.ask();
    end_.begin(number == SIGTERM ? "SIGTERM" : "SIGINT");
  });
  endpoints_.start();
  listener_.start();
  sd_notify(0, "READY=1");
  parts_.reporting.report.started(parts_.config.socket, parts_.config.state, parts_.keeper.adopted());
  parts::serving();
}

void Broker::leave() {
  parts_.reporting.audit.finish();
  end_.leave_the_keeper();
}

}  // namespace mapcap::broker
