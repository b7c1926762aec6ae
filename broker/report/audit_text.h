// An audit record as bytes. No value can look like another field, record or line: names, programs and cgroups are
// whatever their makers liked.
#pragma once

#include <string>

#include "broker/report/audit.h"

namespace mapcap::broker {

/// One line without its end: key=value for what is known. A value that is not of letters, digits and -._/:@+, alone is in
/// double quotes, with \" and \\ for those two; each control character and each byte that is no UTF-8 is '?'.
std::string as_logfmt(const AuditRecord& record);

/// For the journal's socket (systemd.io/JOURNAL_NATIVE_PROTOCOL): MAPCAP_VERB=... and so on, and a sentence.
std::string as_journal_fields(const AuditRecord& record);

/// Of the journal's MESSAGE_ID, which all audit records have.
inline constexpr const char* kAuditMessageId = "6e8f4a1c0d5b4f0e9a7c3b2d1e0f5a69";

}  // namespace mapcap::broker
