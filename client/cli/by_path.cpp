#include "client/cli/by_path.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>

#include "client/cli/beside.h"
#include "mapcap/error.h"

namespace mapcap::cli {
namespace {

/// Above what programs number by themselves, below the usual limit of 1,024.
constexpr int kFirst = 500;
/// Scripts whose interpreter is a script; the kernel allows as many.
constexpr int kMostInterpreters = 5;

[[noreturn]] void cannot(const std::string& file, const std::string& why) {
  throw Error(ErrorCode::unsupported,
              "--at works by a library that is preloaded into the program, and " + file + " " + why +
                  "; give it the grant itself: mapcap run NAME -- ..., which is descriptor 3");
}

[[noreturn]] void raise_errno(const std::string& what, int error) {
  throw Error(ErrorCode::io, what + ": " + std::strerror(error), {{"errno", std::to_string(error)}});
}

/// The file that execvp would run; absent where there is none.
std::optional<std::string> find_program(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): this program has one thread.
  const char* given = std::getenv("PATH");
  std::string path = given != nullptr ? given : "/bin:/usr/bin";
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find(':', at), path.size());
    const std::string directory = path.substr(at, end - at);
    const std::string file = (directory.empty() ? "." : directory) + "/" + program;
    if (::access(file.c_str(), X_OK) == 0) return file;
    at = end + 1;
  }
  return std::nullopt;
}

/// "#! /bin/sh -e": the interpreter.
std::string interpreter_of(const std::string& line) {
  const std::size_t from = line.find_first_not_of(" \t", 2);
  if (from == std::string::npos) return {};
  return line.substr(from, line.find_first_of(" \t\n", from) - from);
}

void check_elf(const std::string& file, int fd, const Elf64_Ehdr& header) {
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64) {
    if (sizeof(void*) == 8) cannot(file, "is for another architecture");
  }
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr part{};
    const auto at = static_cast<off_t>(header.e_phoff + std::uint64_t{i} * header.e_phentsize);
    if (::pread(fd, &part, sizeof part, at) != static_cast<ssize_t>(sizeof part)) return;
    if (part.p_type == PT_INTERP) return;
  }
  cannot(file, "is statically linked");
}

std::string library() {
  const auto found = find_beside("libmapcap-preload.so", MAPCAP_PRELOAD_FROM_PROGRAM, "../preload",
                                 MAPCAP_PRELOAD_INSTALLED);
  if (found) return *found;
  throw Error(ErrorCode::not_found, std::string("libmapcap-preload.so, which --at preloads, is not in ") +
                                        MAPCAP_PRELOAD_INSTALLED + ": install mapcap as a whole");
}

/// A copy that survives exec.
int place(int fd) {
  const int high = ::fcntl(fd, F_DUPFD, kFirst);
  if (high < 0) raise_errno("fcntl(F_DUPFD) of a grant for --at", errno);
  return high;
}

std::string encoded(const std::string& path) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  std::string text;
  for (const char c : path) {
    if (c != '%' && c != ';') {
      text += c;
      continue;
    }
    text += '%';
    text += kDigits[static_cast<unsigned char>(c) >> 4U];
    text += kDigits[static_cast<unsigned char>(c) & 15U];
  }
  return text;
}

}  // namespace

void check_preloadable(const std::string& program) {
  std::optional<std::string> file = find_program(program);
  for (int depth = 0; file && depth < kMostInterpreters; ++depth) {
    const Fd fd(::open(file->c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return;  // Not there, or not to be read: exec will say.
    struct stat status {};
    if (::fstat(fd.get(), &status) == 0 && ((status.st_mode & S_ISUID) != 0 && status.st_uid != ::geteuid()))
      cannot(*file, "is set-uid, for which the kernel has the environment ignored");
    std::array<char, 256> head{};
    static_assert(sizeof head >= sizeof(Elf64_Ehdr));
    if (::pread(fd.get(), head.data(), head.size() - 1, 0) < 2) return;
    if (std::memcmp(head.data(), "#!", 2) == 0) {
      file = interpreter_of(std::string(head.data()));
      continue;
    }
    if (std::memcmp(head.data(), ELFMAG, SELFMAG) != 0) return;
    Elf64_Ehdr header{};
    std::memcpy(&header, head.data(), sizeof header);
    return check_elf(*file, fd.get(), header);
  }
}

void serve_paths(std::vector<GrantAtPath> grants) {
  if (grants.empty()) return;
  std::string preload = library();
  const Fd positions(::memfd_create("mapcap-positions", MFD_CLOEXEC));
  if (!positions.valid()) raise_errno("memfd_create", errno);
  std::string at = std::to_string(place(positions.get()));
  std::set<std::string> seen;
  for (GrantAtPath& one : grants) {
    const std::string path = std::filesystem::absolute(one.path).lexically_normal();
    if (!seen.insert(path).second) throw Error(ErrorCode::invalid, "--at names the path " + path + " twice");
    const bool writable = one.grant.rights() == Access::read_write;
    const auto made = std::chrono::duration_cast<std::chrono::seconds>(one.grant.info().created_unix);
    at += ";" + std::to_string(place(one.grant.fd())) + (writable ? ":rw:" : ":ro:") +
          std::to_string(made.count()) + ":" + encoded(path);
  }
  // NOLINTBEGIN(concurrency-mt-unsafe): this program has one thread.
  if (const char* others = std::getenv("LD_PRELOAD"); others != nullptr && *others != '\0')
    preload += std::string(":") + others;
  ::setenv("LD_PRELOAD", preload.c_str(), 1);
  ::setenv("MAPCAP_AT", at.c_str(), 1);
  // NOLINTEND(concurrency-mt-unsafe)
}

}  // namespace mapcap::cli
