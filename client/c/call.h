// How a call from C is made: what the library throws becomes a code and, for the calling thread, a sentence.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "mapcap.h"
#include "mapcap/mapcap.h"

namespace mapcap::c {

/// Remembers a failure for mapcap_error_*() of this thread, and returns its code. Never throws: without
/// memory the sentence is the one for that.
int fail(int code, const std::string& sentence, Error::Details details = {}) noexcept;
/// The exception that is being handled, as fail() would have it.
int fail_with_current_exception() noexcept;

/// Runs `code`; whatever it throws is remembered. Nothing ever leaves a C function but its return value.
template <typename Code>
int call(Code&& code) noexcept {
  try {
    std::forward<Code>(code)();
    return MAPCAP_OK;
  } catch (...) {
    return fail_with_current_exception();
  }
}

/// An argument that must not be NULL. Errors: `invalid`.
template <typename T>
T* needed(T* argument, const char* what) {
  if (argument == nullptr) throw Error(ErrorCode::invalid, std::string(what) + " must not be NULL");
  return argument;
}

/// Text that may be NULL.
inline std::string text(const char* from) {
  return from != nullptr ? std::string(from) : std::string();
}

/// A number of one of C's enums. Errors: `invalid`.
template <typename Enum>
Enum word(int value, int last, const char* what) {
  if (value < 0 || value > last) {
    throw Error(ErrorCode::invalid, std::string(what) + " is " + std::to_string(value) + ", but 0 to " +
                                        std::to_string(last) + " are its values");
  }
  return static_cast<Enum>(value);
}
inline Access rights(int value) {
  return word<Access>(value, MAPCAP_READ_WRITE, "rights");
}

/// What the caller has of options: as many bytes as it says, the rest as the initializer has them. A library
/// that is older than its caller does not know what more there is, so that is an error. Errors: `invalid`.
template <typename Options>
Options options_or(const Options* given, Options defaults, const char* what) {
  if (given == nullptr) return defaults;
  if (given->size < sizeof(std::size_t) || given->size > sizeof(Options)) {
    throw Error(ErrorCode::invalid,
                std::string(what) + "::size is " + std::to_string(given->size) +
                    "; initialize it with the macro of that name, and use a library that is as "
                    "new as the header");
  }
  // SAFETY: both are plain data, and the caller has so many bytes.
  std::memcpy(&defaults, given, given->size);
  return defaults;
}

/// Writes what the caller has room for. NULL: it does not want to know. Errors: `invalid`.
template <typename Info>
void tell(Info* to, const Info& told, const char* what) {
  if (to == nullptr) return;
  const std::size_t room = to->size;
  if (room < sizeof(std::size_t) || room > sizeof(Info)) {
    throw Error(ErrorCode::invalid,
                std::string(what) + "::size is " + std::to_string(room) +
                    "; set it to the structure's size, and use a library that is as new as the "
                    "header");
  }
  // SAFETY: both are plain data, and the caller has so many bytes.
  std::memcpy(to, &told, room);
  to->size = room;
}

/// The protocol's limits leave room for every name.
template <std::size_t room>
void put(char (&to)[room], std::string_view from) {
  const std::size_t length = std::min(from.size(), room - 1);
  std::memcpy(to, from.data(), length);
  to[length] = '\0';
}

/// Errors: `invalid` below `least`.
inline std::chrono::milliseconds milliseconds(std::int64_t value, std::int64_t least, const char* what) {
  if (value < least) {
    throw Error(ErrorCode::invalid, std::string(what) + " is " + std::to_string(value) + "; " +
                                        std::to_string(least) + " is the least");
  }
  return std::chrono::milliseconds(value);
}

mapcap_region_info to_c(const RegionInfo& region);
RegionSpec to_spec(const mapcap_create_options& options);
/// Empty for NULL.
Progress to_progress(mapcap_progress progress, void* context);

}  // namespace mapcap::c

struct mapcap_grant {
  mapcap::Grant grant;
};
struct mapcap_mapping {
  mapcap::Mapping mapping;
};

namespace mapcap::c {

/// Makes `*grant`, or leaves NULL there.
template <typename Make>
int make_grant(mapcap_grant** grant, Make&& make) {
  if (grant != nullptr) *grant = nullptr;
  return call([&] {
    needed(grant, "grant");
    *grant = new mapcap_grant{std::forward<Make>(make)()};
  });
}

}  // namespace mapcap::c
