// Which confinement a pool gets, as a table of what the policy says and what the machine has.
#include "policy/confinement.h"

#include <gmock/gmock.h>

#include <ostream>

namespace mapcap::policy {
namespace {

using testing::HasSubstr;

constexpr const char* kNoFuse = "no FUSE passthrough";
constexpr const char* kNoBpf = "bpf is no active LSM";

struct Row {
  const char* name;
  Backing backing;
  bool secret;
  std::optional<Confinement> asked;
  ConfinementFacts facts;
  std::optional<Confinement> kind;  ///< Absent: refused.
  const char* says;                 ///< Of the reason, or of the refusal.
};
void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

const ConfinementFacts kAll{};
const ConfinementFacts kNewKernel{"", "", true};
const ConfinementFacts kNoClones{kNoFuse, "", false};
const ConfinementFacts kNoLsm{"", kNoBpf, false};
const ConfinementFacts kNeither{kNoFuse, kNoBpf, false};

class ChooseConfinement : public testing::TestWithParam<Row> {};

TEST_P(ChooseConfinement, IsTheStrongestThatThereIs) {
  const Row& row = GetParam();
  PoolSettings pool;
  pool.name = "p";
  pool.where = "policy.toml:3";
  pool.backing = row.backing;
  pool.secret = row.secret;
  pool.confinement = row.asked;
  const Result<ConfinementChoice> choice = choose_confinement(pool, row.facts);
  ASSERT_EQ(choice.has_value(), row.kind.has_value());
  if (!choice) {
    EXPECT_EQ(choice.error().code, ErrorCode::unsupported);
    EXPECT_THAT(choice.error().sentence, testing::StartsWith("policy.toml:3: "));
    EXPECT_THAT(choice.error().sentence, HasSubstr(row.says));
    return;
  }
  EXPECT_EQ(choice.value().kind, *row.kind);
  EXPECT_THAT(choice.value().reason, HasSubstr(row.says));
  if (*row.says == '\0') {
    EXPECT_EQ(choice.value().reason, "");
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, ChooseConfinement,
    testing::Values(
        Row{"Memory", Backing::memory, false, {}, kAll, Confinement::clone, ""},
        Row{"MemoryWithoutClones",
            Backing::memory,
            false,
            {},
            kNoClones,
            Confinement::lsm,
            "clone: no FUSE passthrough"},
        Row{"MemoryWithoutLsm", Backing::memory, false, {}, kNoLsm, Confinement::clone, ""},
        Row{"MemoryWithNeither",
            Backing::memory,
            false,
            {},
            kNeither,
            {},
            "(clone: no FUSE passthrough; lsm: bpf is no active LSM); run `mapcap doctor`, or accept weaker "
            "ones"},
        Row{"MemoryAskedClone",
            Backing::memory,
            false,
            Confinement::clone,
            kNoClones,
            {},
            "on this machine (clone: no FUSE passthrough)"},
        Row{"MemoryAskedLsm", Backing::memory, false, Confinement::lsm, kAll, Confinement::lsm, ""},
        Row{"MemoryAskedSealed", Backing::memory, false, Confinement::sealed, kNeither, Confinement::sealed,
            "the policy permits plain sealed descriptors"},
        Row{"MemoryAskedNative",
            Backing::memory,
            false,
            Confinement::native,
            kAll,
            {},
            "not confined that way"},
        Row{"Secret", Backing::memory, true, {}, kNeither, Confinement::native, ""},
        Row{"SecretAskedClone", Backing::memory, true, Confinement::clone, kAll, {}, "not confined that way"},
        Row{"DaxFile", Backing::dax_file, false, {}, kAll, Confinement::lsm, ""},
        Row{"DaxFileWithoutLsm",
            Backing::dax_file,
            false,
            {},
            kNoLsm,
            Confinement::clone,
            "lsm: bpf is no active LSM"},
        Row{"DaxFileWithCachestat", Backing::dax_file, false, {}, kNewKernel, Confinement::clone, ""},
        Row{"DaxFileWithCachestatAndNoClones",
            Backing::dax_file,
            false,
            {},
            {kNoFuse, "", true},
            Confinement::lsm,
            "clone: no FUSE passthrough; on a DAX mount this kernel's cachestat(2)"},
        Row{"DaxFileAskedLsmWithCachestat", Backing::dax_file, false, Confinement::lsm, kNewKernel,
            Confinement::lsm, "can be used by holders to crash the machine"},
        Row{"DaxFileAskedSealed",
            Backing::dax_file,
            false,
            Confinement::sealed,
            kAll,
            {},
            "not confined that way"},
        Row{"DaxFileWithNeither", Backing::dax_file, false, {}, kNeither, {}, "run `mapcap doctor`"},
        Row{"DaxDevice", Backing::dax_device, false, {}, kNeither, Confinement::native, ""},
        Row{"PciBar", Backing::pci_bar, false, {}, kNeither, Confinement::native, ""},
        Row{"PciBarAskedLsm", Backing::pci_bar, false, Confinement::lsm, kAll, {}, "not confined that way"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Unconfined, IsAWarningWhereAnotherMachineWouldServeThePool) {
  PoolSettings memory;
  memory.name = "dram";
  memory.where = "p.toml:1";
  memory.at.position = {1, 1};
  PoolSettings bar = memory;
  bar.backing = Backing::pci_bar;
  bar.confinement = Confinement::clone;
  EXPECT_TRUE(unconfined({memory}, kAll).empty());
  const std::vector<Problem> problems = unconfined({memory, bar}, kNeither);
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems[0].severity, Severity::warning);
  EXPECT_THAT(problems[0].message,
              testing::StartsWith("this machine cannot make the descriptors of pool dram"));
  EXPECT_EQ(problems[1].severity, Severity::error);
}

}  // namespace
}  // namespace mapcap::policy
