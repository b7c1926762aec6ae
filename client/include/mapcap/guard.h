// Surviving a revoke: turns the SIGBUS of a revoked mapping into an error return.
//
// A `revocable` region can be taken away while a program reads it; the next touch raises SIGBUS, which by
// default ends the process. Three ways to live on, the safest first:
//   - let the kernel copy: read(2) and write(2) into or out of a mapping fail with EFAULT and raise nothing;
//   - try_read() and try_write() copy with a return value;
//   - guarded() runs your own code, within the limits below.
//
// The first use installs a process-wide SIGBUS handler (with SA_NODEFER and SA_ONSTACK). A SIGBUS that is not
// a fault inside the guarded mapping goes to the handler that was there before, or kills as it would have. A
// program that installs its own SIGBUS handler later must chain to ours, or call install_guard() again; both do no harm.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "mapcap/api.h"

namespace mapcap {

class Mapping;

/// What became of a touch. `revoked`: it faulted, because the region was revoked or its device has bad blocks
/// there (RegionInfo::bad_blocks).
enum class Touch : unsigned char { done, revoked };

/// Installs the handler now (otherwise the first guarded call does), or again after somebody replaced it.
/// Errors: `io`.
MAPCAP_API void install_guard();

/// Copies out of the mapping, from `offset`. `revoked`: some of `destination` may have been written.
/// Errors: `invalid` for a range outside the mapping.
[[nodiscard]] MAPCAP_API Touch try_read(const Mapping& mapping, std::size_t offset,
                                        std::span<std::byte> destination);
/// Copies into the mapping. `revoked`: some of it may have been stored. Errors: `invalid`, `denied`.
[[nodiscard]] MAPCAP_API Touch try_write(Mapping& mapping, std::size_t offset,
                                         std::span<const std::byte> source);

namespace detail {
MAPCAP_API Touch run_guarded(const void* begin, std::size_t length, void (*call)(void*), void* context);
}  // namespace detail

/// Runs `code`, which may touch the mapping. When a touch faults, `code` is left at once by siglongjmp and
/// `revoked` is returned.
///
/// Limits: destructors between here and the fault do NOT run, so `code` and what it calls must hold no lock
/// and own no memory or descriptor while touching the mapping; variables outside that `code` changed have
/// unspecified values unless they are volatile or atomic; `code` must be noexcept. Guards nest, and are per
/// thread: only faults of this thread inside this mapping count. Cost without a fault: saving the registers,
/// no system call.
template <typename Code>
[[nodiscard]] Touch guarded(std::span<const std::byte> memory, Code&& code) {
  using Plain = std::remove_reference_t<Code>;
  static_assert(std::is_nothrow_invocable_v<Plain&>, "code run under a guard must be noexcept");
  return detail::run_guarded(
      memory.data(), memory.size(), [](void* context) { (*static_cast<Plain*>(context))(); },
      const_cast<void*>(static_cast<const void*>(std::addressof(code))));
}

}  // namespace mapcap
