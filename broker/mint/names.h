// What the broker reads of the machine through its mint: names, the policy file, directories.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "broker/mint/link.h"
#include "mapcap/fd.h"
#include "mapcap/words.h"
#include "policy/accounts.h"

namespace mapcap::broker::mint {

/// For policy::ask_names_of. Names that the mint cannot find out count as unknown. `link` outlives it.
std::unique_ptr<policy::NameService> make_names(Link& link);

/// For policy::ask_user_namespaces_of.
std::optional<ino_t> user_namespace(Link& link, pid_t process);

/// policy::read_file of the broker's policy. Errors: its own, and Link::ask's.
Result<std::string> policy_text(Link& link);

/// mount_below of an endpoint's directory.
Result<Fd> endpoint_mount(Link& link, const std::string& place);

/// page_attribute::mapped_from.
Result<CacheMode> cache_mode(Link& link, BorrowedFd file);

/// pool::detached_huge_tmpfs.
Result<Fd> huge_tmpfs(Link& link);

/// The directory of a pool of files, to be read and written. Not valid with errno when it cannot be opened.
Fd pool_directory(Link& link, const std::string& pool);

}  // namespace mapcap::broker::mint
