// What the tests of the client's connection have in common.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "mapcap/mapcap.h"
#include "tests/support/fake_broker.h"
#include "tests/unit/client_grant_test_support.h"

namespace mapcap {

using testing::FakeBroker;
using testing::Peer;

inline ConnectOptions to(const FakeBroker& broker) {
  ConnectOptions options;
  options.socket = broker.path();
  options.deadline = test::kPatience;
  return options;
}

inline schema::Granted granted(const std::string& name, std::uint64_t size, Access rights) {
  schema::Granted body;
  body.region.id = 7;
  body.region.name = name;
  body.region.pool = "dram";
  body.region.size = size;
  body.rights = rights;
  body.with_fd = true;
  return body;
}

/// Answers one Open with a fresh memfd.
inline void grant_once(Peer& peer) {
  const auto request = peer.read();
  const auto fd = memfd(4096);
  peer.reply(request.id, granted("a/b", 4096, Access::read_write), {fd.borrow()});
}

template <typename Call>
Error failure_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error(ErrorCode::invalid, "none");
}

}  // namespace mapcap
