// One of every message, with no field at its default: for the codec's tests and as the fuzzer's seeds.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/units.h"
#include "schema/reply.h"
#include "schema/request.h"

namespace mapcap::schema::examples {

/// Nothing in it is a default, so that a forgotten field shows.
inline RegionInfo full_region() {
  RegionInfo region;
  region.id = 7;
  region.name = "alice/buffer-1";
  region.pool = "dram";
  region.owner = 1000;
  region.group = 100;
  region.mode = 0640;
  region.size = (64_MiB).value;
  region.cache = {CacheMode::write_combining, true, CacheMode::uncached, CacheMechanism::platform, true};
  region.durability = {Granularity::cache_line, PersistenceDomain::memory_controller, true};
  region.confinement = Confinement::lsm;
  region.seal = SealKind::revocable;
  region.lifetime = {LifetimeKind::ttl, std::chrono::hours(1)};
  region.created_unix = std::chrono::nanoseconds(1'700'000'000'000'000'000);
  region.remaining = std::chrono::seconds(3599);
  region.state = RegionState::quarantined;
  region.grants = 3;
  region.held = (32_MiB).value;
  region.bad_blocks = 2;
  region.draining = true;
  region.published_unix = std::chrono::nanoseconds(1'700'000'001'000'000'000);
  region.endpoint = "reader-1";
  return region;
}

inline EndpointSpec full_endpoint() {
  EndpointSpec spec;
  spec.id = "reader-1";
  spec.names = {"models/**", "alice/x"};
  spec.pools = {"dram", "pmem"};
  spec.verbs = {"open"};
  spec.rights = Access::read_only;
  spec.limits = {1, std::nullopt, 3, 4};
  spec.ttl = std::chrono::hours(1);
  spec.on_end = OnEnd::keep;
  spec.labels = {{"namespace", "db"}, {"app.kubernetes.io/name", "x"}};
  return spec;
}

/// Every kind of request, with and without what is optional.
inline std::vector<Request> all_requests() {
  const RegionSpec spec{"alice/a",
                        (64_MiB).value,
                        "pmem",
                        {CacheMode::write_through, true},
                        {LifetimeKind::ttl, std::chrono::hours(1)},
                        0664,
                        0U,
                        SealKind::revocable};
  const Create full{spec, Access::read_write};
  const Limits limits{1, 0, std::nullopt, 18'446'744'073'709'551'615ULL};
  return {
      {1, Hello{2, 5, "tool 1.0", std::string("\0\1\2\3\4\5\6\7\xff\t\n\v\f\r\x0e\x0f", 16)}},
      {2, Hello{}},
      {3, full},
      {4, Create{}},
      {5, Open{"alice/a", Access::read_write}},
      {6, List{"alice/**", "alice/b", 17}},
      {7, Show{"alice/a"}},
      {8, Renew{"alice/a", std::chrono::nanoseconds(1)}},
      {9, Revoke{"alice/a", false, std::chrono::nanoseconds(0)}},
      {10, Revoke{"alice/a", true, std::chrono::seconds(30)}},
      {11, Pools{}},
      {12, Quota{"user 1000"}},
      {13, QuotaSet{{SubjectKind::group, 100, "dram"}, limits}},
      {14, QuotaClear{{SubjectKind::user, 1000, ""}}},
      {18'446'744'073'709'551'615ULL, CloneFd{Access::read_write, 18'446'744'073'709'551'615ULL}},
      {19, AskClonePort{}},
      {20, Goodbye{}},
      {21, Shutdown{{true, false}}},
      {22, Shutdown{{false, true}}},
      {23, AskStatus{}},
      {27, Reload{}},
      {24, PolicyShow{4096}},
      {25, PolicyExplain{{1000, "create", spec, Access::read_write, std::chrono::hours(2)}}},
      {26, PolicyExplain{}},
      {28, Publish{"alice/a", std::chrono::seconds(30)}},
      {40, EndpointCreate{full_endpoint()}},
      {41, EndpointCreate{}},
      {42, EndpointList{"reader-1"}},
      {43, EndpointShow{"reader-1", true}},
      {44, EndpointRenew{"reader-1", std::chrono::hours(2)}},
      {45, EndpointEnd{"reader-1"}},
      {51, EndpointEnd{"alice/reader-1", true}},
  };
}

/// Every kind of reply and notice.
inline std::vector<FromBroker> all_answers() {
  const PoolInfo pool{"dram",
                      "memory",
                      (64_MiB).value,
                      (1_MiB).value,
                      4,
                      (4_KiB).value,
                      Confinement::clone,
                      "no BPF LSM",
                      {SealKind::sealed, SealKind::revocable},
                      {CacheMode::write_back, CacheMode::uncached},
                      {Granularity::byte, PersistenceDomain::cpu_cache, true}};
  const QuotaInfo quota{
      {SubjectKind::user, 1000, "dram"}, {std::nullopt, 4, 5, 6}, 7, 8, 9, 10, true, "reader-1"};
  const EndpointInfo endpoint{full_endpoint(),
                              1000,
                              0xC0000001,
                              EndpointState::ending,
                              "/run/mapcap/endpoints/reader-1",
                              std::chrono::nanoseconds(17),
                              std::chrono::nanoseconds(18),
                              19,
                              20,
                              21,
                              22};
  return {
      Reply{1, failure(ErrorCode::over_quota, "too much", {{"asked", "2"}, {"limit", "1"}})},
      Reply{2, Welcome{1, 3, "mapcapd 0.1.0", std::string(16, '\0'), std::chrono::seconds(5), true}},
      Reply{3, Granted{full_region(), Access::read_write, true}},
      Reply{4, Listing{{full_region(), RegionInfo{}, full_region()}, "alice/c"}},
      Reply{5, Listing{}},
      Reply{6, RegionDetails{full_region(),
                             {{1000, Access::read_write, 2, "reader-1"},
                              {0, Access::read_only, 1, "", true},
                              {7, Access::read_only, 3, "", false, "a.service", "0123456789ab", "/x"}}}},
      Reply{7, Renewed{full_region()}},
      Reply{8, Revoked{(5_MiB).value, 6}},
      Reply{9, PoolList{{pool, PoolInfo{}}}},
      Reply{10, QuotaList{{quota, QuotaInfo{}}, "more"}},
      Reply{11, Done{}},
      Reply{13, ClonePort{9}},
      Reply{14, ShutdownResult{3, 2, (5_MiB).value, 4, 1}},
      Reply{15, BrokerStatus{"mapcapd 0.1.0",
                             17,
                             std::chrono::nanoseconds(1'700'000'000'000'000'000),
                             "/etc/mapcap/policy.toml",
                             std::chrono::nanoseconds(1'700'000'001'000'000'000),
                             {{RegionState::live, 5}, {RegionState::lost, 2}},
                             2,
                             {{7, "alice/a", 1000}, {8, "bob/b", 1001}},
                             {18, true, true, 3, 4, "was killed by signal 9", 5, 6, 7, 8, 9},
                             "no space left on device",
                             StoreUse{9, 1, 64, 3},
                             6,
                             4096,
                             {{"dram", Confinement::clone}, {"bar", Confinement::native}}}},
      Reply{16, BrokerStatus{}},
      Reply{17, ReloadOutcome{"/etc/p.toml",
                              true,
                              {{3, 4, true, "odd"}},
                              {{"rule added", "user alice", "/etc/p.toml:3", "names = a/**"}},
                              5}},
      Reply{18, ReloadOutcome{}},
      Reply{19, PolicyPiece{{"/etc/p.toml", "e3b0", std::chrono::nanoseconds(17), "user alice", 1, 2, 3,
                             std::string("# \0\n\xff", 5)},
                            4,
                            5}},
      Reply{20, Explained{{"/etc/p.toml",
                           "user alice",
                           "/etc/p.toml:3",
                           full_region(),
                           {{"/etc/p.toml:3", true, "any user", true, "names = a/**"}},
                           6,
                           "rule /etc/p.toml:9 denies it in unit job.service"},
                          failure(ErrorCode::denied, "no")}},
      Reply{21, Explained{}},
      Reply{22, Published{full_region()}},
      Reply{34, EndpointTold{endpoint, true}},
      Reply{35, EndpointListing{{endpoint, EndpointInfo{}}, "reader-2"}},
      Reply{36, EndpointEnded{1, 2, (3_KiB).value, 4, {"models/a", "models/b"}, 5}},
      Notice{NoticeKind::progress, RegionId{7}, "alice/a", std::chrono::seconds(3), 12, 1_MiB, 2_MiB},
      Notice{},
  };
}

}  // namespace mapcap::schema::examples
