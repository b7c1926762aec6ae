// Files and memory that BPF LSM programs confine: the holder has the real memfd or DAX file, so MAP_SYNC and
// F_GET_SEALS work, and every other operation on it is refused by the kernel.
//
// Marks live in the inodes, programs and maps in bpffs: grants stay confined while no broker runs. An inode
// that has left the kernel's memory (after an unmount) comes back without its mark, and attach sets it again:
// nobody can have held it meanwhile, and nobody but a root process opens a 0600 file of root's.
//
// What root could do: change a marked file's mode or owner, remove the pins. Grants are confined against
// everybody who is not root, and against programs of root's that a holder tricks into using its descriptor.
#pragma once

#include <memory>
#include <string>

#include "broker/confine/confiner.h"

namespace mapcap::broker::confine {

struct LsmOptions {
  /// A directory on a bpffs; made when missing. Brokers that share it share the programs.
  std::string pins = "/sys/fs/bpf/mapcap";
};

/// Why this machine cannot confine by BPF LSM, in one sentence that says what to do; empty when it can. Loads
/// the programs to find out, and attaches nothing. Needs root.
std::string lsm_unavailable();

/// Attaches the programs unless they are, tries on a file of its own that they refuse what they should, and
/// makes this process one that may still open, truncate and punch marked files. Loop only. Errors:
/// `unsupported` with the sentence of lsm_unavailable, `io`.
Result<std::unique_ptr<Confiner>> make_lsm(const LsmOptions& options = {});

// The same of a broker whose mint has the power. What takes it is done by these two, in the mint:

/// Attaches and tries the programs as make_lsm does, and exempts `process`, a pidfd, until it ends; and the caller. Errors:
/// those of make_lsm.
Result<void> start_lsm(BorrowedFd process, const LsmOptions& options = {});

/// Marks a regular file of root's with mode 0600; any other is refused. The pinned maps are looked up each time, so that
/// nothing is called confined after somebody has removed them. Errors: `unsupported`, `io`.
Result<void> mark_for_lsm(BorrowedFd file, const LsmOptions& options = {});

/// What the programs take for a file that can be marked: gives it its mode. Errors: `unsupported`, `io`.
Result<void> prepare_for_lsm(BorrowedFd file, Backing backing);

}  // namespace mapcap::broker::confine
