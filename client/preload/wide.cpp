// Wide characters of a region's streams. The C library ends the program that reads or writes them from a stream with
// functions of its own (fopencookie), so they are made of its bytes here.
#include <wchar.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "client/preload/real.h"
#include "client/preload/served.h"

using namespace mapcap::preload;

#undef getwc
#undef getwchar
#undef putwc
#undef putwchar

namespace {

wint_t get(FILE* file) {
  mbstate_t state{};
  for (;;) {
    const int byte = std::getc(file);
    if (byte == EOF) {
      if (::mbsinit(&state) == 0) errno = EILSEQ;
      return WEOF;
    }
    const char one = static_cast<char>(byte);
    wchar_t wide = 0;
    const std::size_t taken = ::mbrtowc(&wide, &one, 1, &state);
    if (taken == static_cast<std::size_t>(-2)) continue;
    return taken == static_cast<std::size_t>(-1) ? WEOF : static_cast<wint_t>(wide);
  }
}

wint_t put(wchar_t wide, FILE* file) {
  std::array<char, MB_LEN_MAX> bytes{};
  mbstate_t state{};
  const std::size_t length = ::wcrtomb(bytes.data(), wide, &state);
  if (length == static_cast<std::size_t>(-1)) return WEOF;
  return std::fwrite(bytes.data(), 1, length, file) == length ? static_cast<wint_t>(wide) : WEOF;
}

wchar_t* get_line(wchar_t* to, int room, FILE* file) {
  int got = 0;
  while (got + 1 < room) {
    const wint_t wide = get(file);
    if (wide == WEOF && (got == 0 || std::ferror(file) != 0)) return nullptr;
    if (wide == WEOF) break;
    to[got++] = static_cast<wchar_t>(wide);
    if (wide == L'\n') break;
  }
  if (room > 0) to[got] = L'\0';
  return room > 0 ? to : nullptr;
}

int put_all(const wchar_t* text, FILE* file) {
  for (; *text != L'\0'; ++text) {
    if (put(*text, file) == WEOF) return -1;
  }
  return 1;
}

/// What vfwprintf would print.
int print(FILE* file, const wchar_t* format, va_list arguments) {
  for (std::size_t room = 256; room <= (std::size_t{1} << 26U); room *= 4) {
    auto* text = static_cast<wchar_t*>(std::malloc(room * sizeof(wchar_t)));
    if (text == nullptr) return -1;
    va_list again;
    va_copy(again, arguments);
    const int length = ::vswprintf(text, room, format, again);
    va_end(again);
    const bool done = length >= 0 && put_all(text, file) >= 0;
    std::free(text);
    if (length >= 0) return done ? length : -1;
  }
  return -1;
}

}  // namespace

MAPCAP_SERVES int fwide(FILE* file, int mode) noexcept {
  return is_stream(file) ? mode : MAPCAP_REAL(fwide)(file, mode);
}

MAPCAP_SERVES wint_t fgetwc(FILE* file) {
  return is_stream(file) ? get(file) : MAPCAP_REAL(fgetwc)(file);
}
MAPCAP_SERVES wint_t fgetwc_unlocked(FILE* file) {
  return is_stream(file) ? get(file) : MAPCAP_REAL(fgetwc_unlocked)(file);
}
MAPCAP_SERVES wint_t getwc(FILE* file) {
  return ::fgetwc(file);
}
MAPCAP_SERVES wint_t getwc_unlocked(FILE* file) {
  return ::fgetwc_unlocked(file);
}
MAPCAP_SERVES wint_t getwchar() {
  return ::fgetwc(stdin);
}
MAPCAP_SERVES wint_t getwchar_unlocked() {
  return ::fgetwc_unlocked(stdin);
}
MAPCAP_SERVES wchar_t* fgetws(wchar_t* to, int room, FILE* file) {
  return is_stream(file) ? get_line(to, room, file) : MAPCAP_REAL(fgetws)(to, room, file);
}
MAPCAP_SERVES wchar_t* fgetws_unlocked(wchar_t* to, int room, FILE* file) {
  return is_stream(file) ? get_line(to, room, file) : MAPCAP_REAL(fgetws_unlocked)(to, room, file);
}
MAPCAP_SERVES wchar_t* __fgetws_chk(wchar_t* to, std::size_t, int room, FILE* file) {
  return ::fgetws(to, room, file);
}
MAPCAP_SERVES wchar_t* __fgetws_unlocked_chk(wchar_t* to, std::size_t, int room, FILE* file) {
  return ::fgetws_unlocked(to, room, file);
}
MAPCAP_SERVES wint_t ungetwc(wint_t wide, FILE* file) {
  if (!is_stream(file)) return MAPCAP_REAL(ungetwc)(wide, file);
  std::array<char, MB_LEN_MAX> bytes{};
  mbstate_t state{};
  if (wide == WEOF) return WEOF;
  const std::size_t length = ::wcrtomb(bytes.data(), static_cast<wchar_t>(wide), &state);
  if (length == static_cast<std::size_t>(-1)) return WEOF;
  for (std::size_t i = length; i > 0; --i) {
    if (std::ungetc(static_cast<unsigned char>(bytes[i - 1]), file) == EOF) return WEOF;
  }
  return wide;
}

MAPCAP_SERVES wint_t fputwc(wchar_t wide, FILE* file) {
  return is_stream(file) ? put(wide, file) : MAPCAP_REAL(fputwc)(wide, file);
}
MAPCAP_SERVES wint_t fputwc_unlocked(wchar_t wide, FILE* file) {
  return is_stream(file) ? put(wide, file) : MAPCAP_REAL(fputwc_unlocked)(wide, file);
}
MAPCAP_SERVES wint_t putwc(wchar_t wide, FILE* file) {
  return ::fputwc(wide, file);
}
MAPCAP_SERVES wint_t putwc_unlocked(wchar_t wide, FILE* file) {
  return ::fputwc_unlocked(wide, file);
}
MAPCAP_SERVES wint_t putwchar(wchar_t wide) {
  return ::fputwc(wide, stdout);
}
MAPCAP_SERVES wint_t putwchar_unlocked(wchar_t wide) {
  return ::fputwc_unlocked(wide, stdout);
}
MAPCAP_SERVES int fputws(const wchar_t* text, FILE* file) {
  return is_stream(file) ? put_all(text, file) : MAPCAP_REAL(fputws)(text, file);
}
MAPCAP_SERVES int fputws_unlocked(const wchar_t* text, FILE* file) {
  return is_stream(file) ? put_all(text, file) : MAPCAP_REAL(fputws_unlocked)(text, file);
}

MAPCAP_SERVES int vfwprintf(FILE* file, const wchar_t* format, va_list arguments) {
  return is_stream(file) ? print(file, format, arguments) : MAPCAP_REAL(vfwprintf)(file, format, arguments);
}
MAPCAP_SERVES int vwprintf(const wchar_t* format, va_list arguments) {
  return ::vfwprintf(stdout, format, arguments);
}
MAPCAP_SERVES int __vfwprintf_chk(FILE* file, int, const wchar_t* format, va_list arguments) {
  return ::vfwprintf(file, format, arguments);
}
MAPCAP_SERVES int __vwprintf_chk(int, const wchar_t* format, va_list arguments) {
  return ::vfwprintf(stdout, format, arguments);
}

#define MAPCAP_PRINT(file)                                  \
  va_list arguments;                                        \
  va_start(arguments, format);                              \
  const int printed = ::vfwprintf(file, format, arguments); \
  va_end(arguments);                                        \
  return printed

MAPCAP_SERVES int fwprintf(FILE* file, const wchar_t* format, ...) {
  MAPCAP_PRINT(file);
}
MAPCAP_SERVES int wprintf(const wchar_t* format, ...) {
  MAPCAP_PRINT(stdout);
}
MAPCAP_SERVES int __fwprintf_chk(FILE* file, int, const wchar_t* format, ...) {
  MAPCAP_PRINT(file);
}
MAPCAP_SERVES int __wprintf_chk(int, const wchar_t* format, ...) {
  MAPCAP_PRINT(stdout);
}
