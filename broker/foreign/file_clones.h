// `mapcap clone`: the caller's own descriptor of any regular file goes in, an mmap-only clone with at most
// its rights comes back. Nothing is recorded: a clone lives as long as its descriptors and mappings do.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "broker/books/directory.h"
#include "broker/books/quotas.h"
#include "broker/foreign/file_examiner.h"
#include "broker/keeper/keeper.h"
#include "broker/regions/delivery.h"
#include "broker/wait/task.h"
#include "policy/subject.h"
#include "schema/request.h"

namespace mapcap::broker {

class FileClones {
 public:
  FileClones(keeper::Keeper& keeper, Quotas& quotas, FileExaminer& examiner)
      : FileClones(keeper, quotas, examiner, first_number()) {}

  /// A port for the session; one that it had before ends. Errors: FileExaminer::open_port.
  Task<Result<Delivery>> open_port(SessionId session, std::uint32_t account);

  /// Of the file that was sent to the session's port. Errors: `invalid` for what is no regular file, `denied`
  /// for more rights than the descriptor has (an O_PATH or write-only descriptor, append mode, a write seal),
  /// `unsupported` for a filesystem that a hostile server may answer for or that cannot be passed through,
  /// `unavailable` when the session's port is gone, and what the confiner says.
  Task<Result<Delivery>> clone(SessionId session, const policy::Subject& subject, schema::CloneFd ask);

  /// The session ended.
  void ended(SessionId session) { drop_port(session); }

  /// After a restart: a grant that lives on in the keeper, if it is a clone's.
  void restore(const confine::LiveGrant& grant);
  /// The uid that a clone's grant was issued to; empty when it is none's.
  [[nodiscard]] std::optional<std::uint32_t> holder_of(confine::GrantId grant) const;
  /// True when the grant was a clone's.
  bool released(confine::GrantId grant);
  /// The clones of a keeper that died are nobody's any more.
  void forget_all();

 private:
  struct Clone {
    RegionId id;
    Charge charge;
  };
  FileClones(keeper::Keeper& keeper, Quotas& quotas, FileExaminer& examiner, std::uint64_t first)
      : keeper_(keeper), quotas_(quotas), examiner_(examiner), next_(first) {}
  static std::uint64_t first_number();
  void drop_port(SessionId session);

  keeper::Keeper& keeper_;
  Quotas& quotas_;
  FileExaminer& examiner_;
  std::uint64_t next_;
  std::unordered_map<SessionId, std::uint64_t> ports_;
  std::unordered_map<confine::GrantId, Clone> clones_;
};

}  // namespace mapcap::broker
