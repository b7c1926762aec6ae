// One function a command. Each prints its result to stdout and returns the exit code; all throw
// mapcap::Error.
#pragma once

#include "client/cli/command.h"
#include "mapcap/error.h"

namespace mapcap::cli {

/// The program of run or clone cannot be had: exit codes as of env(1), 127 where there is none, else 126.
class NotRun : public Error {
 public:
  NotRun(const Error& error, int code) : Error(error), exit_code(code) {}
  int exit_code;
};

int perform(const Common& common, const CreateCommand& command);
int perform(const Common& common, const ListCommand& command);
int perform(const Common& common, const HoldersCommand& command);
int perform(const Common& common, const ShowCommand& command);
int perform(const Common& common, const RevokeCommand& command);
int perform(const Common& common, const RenewCommand& command);
int perform(const Common& common, const PublishCommand& command);
/// Does not return when the program was started: it has taken this process's place.
int perform(const Common& common, const RunCommand& command);
int perform(const Common& common, const CloneCommand& command);
/// Its exit code is the program's; where that was ended by a signal, this process ends by the same.
int perform(const Common& common, const DevCommand& command);
int perform(const Common& common, const FillCommand& command);
int perform(const Common& common, const DumpCommand& command);
int perform(const Common& common, const PoolsCommand& command);
int perform(const Common& common, const QuotaListCommand& command);
int perform(const Common& common, const QuotaSetCommand& command);
int perform(const Common& common, const QuotaClearCommand& command);
int perform(const Common& common, const MetricsCommand& command);
/// Until interrupted on a terminal; once elsewhere.
int perform(const Common& common, const TopCommand& command);
int perform(const Common& common, const StatusCommand& command);
int perform(const Common& common, const ShutdownCommand& command);
int perform(const Common& common, const EndpointCreateCommand& command);
int perform(const Common& common, const EndpointListCommand& command);
int perform(const Common& common, const EndpointShowCommand& command);
int perform(const Common& common, const EndpointRenewCommand& command);
int perform(const Common& common, const EndpointEndCommand& command);
/// Does not return when the program was started.
int perform(const Common& common, const EndpointRunCommand& command);
int perform(const Common& common, const PolicyCheckCommand& command);
int perform(const Common& common, const PolicyExplainCommand& command);
int perform(const Common& common, const PolicyDefaultCommand& command);
int perform(const Common& common, const PolicyShowCommand& command);
int perform(const Common& common, const PolicyDiffCommand& command);
int perform(const Common& common, const ReloadCommand& command);
int perform(const Common& common, const DoctorCommand& command);
int perform(const Common& common, const AttackCommand& command);
int perform(const Common& common, const CompletionCommand& command);

}  // namespace mapcap::cli
