// The C library's own functions, behind ours.
#pragma once

#include <dlfcn.h>

#include <atomic>

namespace mapcap::preload {

/// MAPCAP_REAL(read)(fd, to, length): what the program would have called without us. Looked up once; null
/// where this C library has no such function.
template <typename Function>
Function* real(const char* name, std::atomic<void*>& found) {
  void* symbol = found.load(std::memory_order_acquire);
  if (symbol == nullptr) {
    symbol = ::dlsym(RTLD_NEXT, name);
    found.store(symbol, std::memory_order_release);
  }
  // SAFETY: the symbol is the C library's function of this name, whose type its header declares.
  return reinterpret_cast<Function*>(symbol);
}

}  // namespace mapcap::preload

#define MAPCAP_REAL_AS(type, name)                      \
  ([]() -> type* {                                      \
    static std::atomic<void*> found{nullptr};           \
    return ::mapcap::preload::real<type>(#name, found); \
  }())
#define MAPCAP_REAL(name) MAPCAP_REAL_AS(decltype(::name), name)

/// What the program sees of this library.
#define MAPCAP_SERVES extern "C" __attribute__((visibility("default")))

/// Another name that the C library has for a function of this file. (The alias attribute wants the attributes of both to
/// agree, and only the C library's headers know those of one.)
#define MAPCAP_ALSO(older, name) __asm__(".globl " #older "\n.set " #older ", " #name)
