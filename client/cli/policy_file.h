// A policy file that somebody names on the command line: read whoever may change it, since nothing is done by it.
#pragma once

#include <memory>
#include <string>

#include "client/raise.h"
#include "policy/load/loader.h"

namespace mapcap::cli {

inline std::shared_ptr<const policy::Policy> load_policy(const std::string& path) {
  const std::string text = value_or_raise(policy::read_anybodys_file(path));
  return value_or_raise(policy::load_text(text, path, policy::system_accounts()));
}

}  // namespace mapcap::cli
