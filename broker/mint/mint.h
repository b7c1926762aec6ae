// The mint: the process that keeps the machine's power when the broker has given it up.
//
// It is forked from the broker before that has heard anybody, has one thread, and does one small thing after the other for
// the broker and for nobody else. What may take its time (a name service, a mount) it does in a child of its own, which
// answers on that lane from then on; so nothing that hangs hangs the mint.
//
// Each mint can fork the next, its heir, which then waits for the day when it is asked something. The broker has no power
// to make one, and a supervisor above both would be one process more that must not die; like this the broker always knows
// two, of which one may be killed, and the other makes the next.
#pragma once

#include <string>

#include "mapcap/fd.h"

namespace mapcap::broker::mint {

/// What a mint acts on and no message can name.
struct Places {
  std::string policy;   ///< The policy file; empty: the built-in one.
  std::string socket;   ///< The broker's own.
  std::string state;    ///< The state directory.
  BorrowedFd broker{};  ///< Its pidfd; of run_mint's own.
};

/// Who forked it: an heir has its mint's filter already, and a process can only have so many.
enum class Origin : bool { broker, mint };

/// In a child that was just forked from a process with one thread: closes everything but `control` and `broker`, which is
/// the broker's pidfd, keeps what sandbox::drop_privileges keeps, and serves until the other end of `control` is closed.
/// Never returns to the caller's stack.
[[noreturn]] void run_mint(Fd control, Fd broker, Places places, Origin origin);

}  // namespace mapcap::broker::mint
