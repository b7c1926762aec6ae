// Where audit records go: the journal under a service manager, standard error elsewhere.
#pragma once

#include <memory>
#include <string>

#include "broker/report/audit.h"
#include "mapcap/fd.h"

namespace mapcap::broker {

/// "mapcapd: audit verb=create ...", one line a record.
class LogAuditOutlet final : public AuditOutlet {
 public:
  bool put(const AuditRecord& record) override;
};

/// Where the journal takes records.
inline constexpr const char* kJournalSocket = "/run/systemd/journal/socket";

/// Fields of their own (MAPCAP_VERB=, ...). sd_journal_send would wait where the journal is stopped.
class JournalAuditOutlet final : public AuditOutlet {
 public:
  explicit JournalAuditOutlet(std::string socket = kJournalSocket);
  /// True as well for a record that the journal will never take; that one is told on standard error.
  bool put(const AuditRecord& record) override;

 private:
  bool connect();
  std::string path_;
  Fd socket_;
};

/// The journal where standard error is one of its streams (JOURNAL_STREAM), else standard error.
std::unique_ptr<AuditOutlet> make_audit_outlet();

}  // namespace mapcap::broker
