// What the user asked for, as plain values: parse.cpp makes them, commands.h does them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "client/cli/completion.h"
#include "client/cli/selection.h"
#include "mapcap/client.h"

namespace mapcap::cli {

/// Options that every command takes.
struct Common {
  std::string socket;  ///< Empty: $MAPCAP_SOCKET or the default.
  bool json = false;
};

struct CreateCommand {
  RegionSpec spec;
};
struct ListCommand {
  std::string glob;
  RegionFilter filter;
  RegionOrder order = RegionOrder::name;
  bool watch = false;  ///< Again and again, until interrupted.
};
struct HoldersCommand {
  std::string glob;
};
struct ShowCommand {
  std::string name;
};
struct RevokeCommand {
  std::string name;  ///< Or a glob.
  bool drain = false;
  std::chrono::nanoseconds within{0};  ///< 0: without limit.
  bool yes = false;                    ///< Nobody is asked.
};
struct RenewCommand {
  std::string name;
  std::chrono::nanoseconds ttl{0};
};

struct PublishCommand {
  std::string name;
  std::chrono::nanoseconds within{0};  ///< How long to wait for writers.
};

struct WantedGrant {
  std::string name;
  Access rights = Access::read_only;
};
struct WantedPath {
  std::string path;
  WantedGrant grant;
};
/// At least one grant or path.
struct RunCommand {
  std::vector<WantedGrant> grants;
  std::vector<WantedPath> paths;
  std::vector<std::string> program;  ///< argv; never empty.
};
struct CloneCommand {
  std::string file;
  Access rights = Access::read_write;
  std::vector<std::string> program;
};

/// A private broker; for `program`, or else a shell or until it is told to end.
struct DevCommand {
  std::vector<std::string> program;
};

/// file: "-" is stdin or stdout.
struct FillCommand {
  std::string name;
  std::string file;
  std::optional<PublishCommand> publish;  ///< Afterwards.
};
struct DumpCommand {
  std::string name;
  std::string file;
  std::optional<std::uint64_t> bytes;  ///< Absent: all.
};

struct PoolsCommand {};
struct QuotaListCommand {
  QuotaFilter filter;
};
struct QuotaSetCommand {
  QuotaSlot slot;
  Limits limits;
};
struct QuotaClearCommand {
  QuotaSlot slot;
};

/// In the text format of Prometheus.
struct MetricsCommand {};
struct TopCommand {};
struct StatusCommand {};
struct ShutdownCommand {
  bool end_regions = false;
  bool yes = false;  ///< Nobody is asked.
};

struct EndpointCreateCommand {
  EndpointSpec spec;
};
struct EndpointListCommand {};
struct EndpointShowCommand {
  std::string id;
};
struct EndpointRenewCommand {
  std::string id;
  std::chrono::nanoseconds ttl{0};
};
struct EndpointEndCommand {
  std::string id;
  bool revoke_opened = false;
};
struct EndpointRunCommand {
  std::string id;
  std::vector<std::string> program;
};

struct PolicyCheckCommand {
  std::string file;
};
struct PolicyExplainCommand {
  std::string user;
  std::string file;         ///< Empty: the installed unit's if there is one, else the shipped default.
  bool ask_broker = false;  ///< By the policy in force, not by a file.
  PolicyQuestion question;  ///< But for the uid.
  std::optional<std::uint32_t> owner;  ///< Of the region that there is; absent: who asks.
  std::set<std::string> given;         ///< The options: "--size".
};
/// Who gains and loses what.
struct PolicyDiffCommand {
  std::string before;
  std::string after;
};
struct PolicyShowCommand {};
struct ReloadCommand {};
/// Prints the shipped default.
struct PolicyDefaultCommand {};

struct DoctorCommand {
  std::string state;  ///< The daemon's state directory.
};
/// The attack table on a fresh grant of a region, or on a plain sealed memfd (to see what it finds there).
struct AttackCommand {
  std::string name;  ///< Empty: a plain sealed memfd.
  Access rights = Access::read_only;
  bool all = false;    ///< Every line, not only the findings.
  std::string except;  ///< An operation that is not tried; empty: none.
};

struct CompletionCommand {
  std::string shell;  ///< bash, zsh or fish.
  CommandTree program;
};

using Command =
    std::variant<CreateCommand, ListCommand, HoldersCommand, ShowCommand, RevokeCommand, RenewCommand,
                 PublishCommand, RunCommand, CloneCommand, DevCommand, FillCommand, DumpCommand, PoolsCommand,
                 QuotaListCommand, QuotaSetCommand, QuotaClearCommand, MetricsCommand, TopCommand,
                 PolicyCheckCommand, PolicyExplainCommand, PolicyDefaultCommand, PolicyShowCommand,
                 PolicyDiffCommand, ReloadCommand, DoctorCommand, AttackCommand, CompletionCommand,
                 StatusCommand, ShutdownCommand, EndpointCreateCommand, EndpointListCommand,
                 EndpointShowCommand, EndpointRenewCommand, EndpointEndCommand, EndpointRunCommand>;

struct Invocation {
  Common common;
  Command command;
};

/// Done without a command: help and version (0), or a usage error (2), which is one sentence.
struct Finished {
  int code = 0;
  std::string text;
};

/// argv as main got it.
std::variant<Invocation, Finished> parse(int argc, const char* const* argv);

}  // namespace mapcap::cli
