/* The calls that a program makes who knows paths only, under `mapcap run --at PATH=NAME:rw`: prints what is not as it is
 * with a file and ends with 1. The region holds 12,288 bytes, the nth of which is 'a' + n % 26.
 *
 *     path_calls PATH SCRATCH-DIRECTORY
 *     path_calls PATH SCRATCH-DIRECTORY child     as what it starts itself, with the region as standard input
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wchar.h>

enum { SIZE = 12288 };
extern char** environ;
static int wrong = 0;
static const char* path;
static char program[4096];
static char scratch[4096];

static void expect(int is_so, int line, const char* what) {
  if (is_so) return;
  wrong = 1;
  fprintf(stderr, "path_calls.c:%d: %s; errno %d: %s\n", line, what, errno, strerror(errno));
}
#define EXPECT(condition) expect((condition) != 0, __LINE__, #condition)

static char at(off_t offset) {
  return (char)('a' + offset % 26);
}
static int same(const char* bytes, off_t from, size_t length) {
  size_t i;
  for (i = 0; i < length; ++i)
    if (bytes[i] != at(from + (off_t)i)) return 0;
  return 1;
}

static void opening(void) {
  char link[64], target[4096], bytes[64];
  struct stat status;
  struct statx extended;
  struct statvfs filesystem;
  char* real;
  volatile int flags = O_RDONLY; /* What fortified programs call is chosen by the compiler. */
  int fd, other;
  EXPECT((fd = open(path, flags)) >= 0 && close(fd) == 0);
  EXPECT((fd = openat(AT_FDCWD, path, flags)) >= 0 && close(fd) == 0);
  EXPECT((fd = creat(path, 0600)) >= 0);
  EXPECT(read(fd, bytes, 1) == -1 && errno == EBADF);
  EXPECT((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY);
  close(fd);
  EXPECT(open(path, O_RDWR | O_CREAT | O_EXCL, 0600) == -1 && errno == EEXIST);
  EXPECT(open(path, O_RDONLY | O_DIRECTORY) == -1 && errno == ENOTDIR);
  EXPECT((fd = open(path, O_RDONLY)) >= 0);
  EXPECT(write(fd, "x", 1) == -1 && errno == EBADF);
  EXPECT(stat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == SIZE);
  EXPECT(status.st_mtime > 1700000000);
  EXPECT(lstat(path, &status) == 0 && status.st_size == SIZE);
  EXPECT(fstat(fd, &status) == 0 && status.st_size == SIZE);
  EXPECT(fstatat(AT_FDCWD, path, &status, 0) == 0 && status.st_size == SIZE);
  EXPECT(fstatat(fd, "", &status, AT_EMPTY_PATH) == 0 && status.st_size == SIZE);
  EXPECT(statx(AT_FDCWD, path, 0, STATX_SIZE, &extended) == 0 && extended.stx_size == SIZE);
  EXPECT(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &extended) == 0 && extended.stx_size == SIZE);
  EXPECT(statvfs(path, &filesystem) == 0 && filesystem.f_bsize >= 512);
  EXPECT(fstatvfs(fd, &filesystem) == 0);
  EXPECT(access(path, R_OK | W_OK) == 0 && access(path, X_OK) == -1);
  EXPECT(faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0);
  EXPECT((real = realpath(path, NULL)) != NULL && strcmp(real, path) == 0);
  free(real);
  /* By its number. */
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  memset(target, 0, sizeof target);
  EXPECT(readlink(link, target, sizeof target) == (ssize_t)strlen(path) && strcmp(target, path) == 0);
  EXPECT(readlink(path, target, sizeof target) == -1 && errno == EINVAL);
  EXPECT((other = open(link, flags)) >= 0 && read(other, bytes, 4) == 4 && same(bytes, 0, 4));
  close(other);
  snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)getpid(), fd);
  EXPECT((other = open(link, flags)) >= 0 && read(other, bytes, 4) == 4 && same(bytes, 0, 4));
  close(other);
  EXPECT(truncate(path, SIZE) == 0 && truncate(path, 1) == -1 && errno == EPERM);
  close(fd);
}

static void transferring(void) {
  char bytes[SIZE + 16], more[16];
  struct iovec parts[2] = {{NULL, 10}, {NULL, 16}};
  int fd = open(path, O_RDWR), pipes[2], file;
  off_t offset = 0;
  EXPECT(fd >= 0 && pipe(pipes) == 0);
  EXPECT(read(fd, bytes, sizeof bytes) == SIZE && same(bytes, 0, SIZE) && read(fd, bytes, 1) == 0);
  EXPECT(lseek(fd, 100, SEEK_SET) == 100 && lseek(fd, 5, SEEK_CUR) == 105 &&
         lseek(fd, -1, SEEK_END) == SIZE - 1);
  EXPECT(lseek(fd, 0, SEEK_DATA) == 0 && lseek(fd, 0, SEEK_HOLE) == SIZE);
  EXPECT(lseek(fd, -1, SEEK_SET) == -1 && errno == EINVAL);
  EXPECT(pread(fd, bytes, 10, 1000) == 10 && same(bytes, 1000, 10));
  EXPECT(pread(fd, bytes, 10, -1) == -1 && errno == EINVAL);
  parts[0].iov_base = bytes;
  parts[1].iov_base = more;
  lseek(fd, 26, SEEK_SET);
  EXPECT(readv(fd, parts, 2) == 26 && same(bytes, 26, 10) && same(more, 36, 16) &&
         lseek(fd, 0, SEEK_CUR) == 52);
  EXPECT(preadv(fd, parts, 2, SIZE - 12) == 12 && same(bytes, SIZE - 12, 10) && same(more, SIZE - 2, 2));
  EXPECT(preadv2(fd, parts, 2, 7, 0) == 26 && same(bytes, 7, 10));
  EXPECT(preadv2(fd, parts, 2, -1, 0) == 26 && same(bytes, 52, 10) && lseek(fd, 0, SEEK_CUR) == 78);
  EXPECT(pwrite(fd, "XY", 2, 26) == 2 && pread(fd, bytes, 3, 25) == 3 && memcmp(bytes, "zXY", 3) == 0);
  EXPECT(pwrite(fd, "ab", 2, 26) == 2);
  memcpy(bytes, "QQQQQQQQQQ", 10);
  EXPECT(pwritev(fd, parts, 1, 0) == 10 && pread(fd, more, 1, 9) == 1 && more[0] == 'Q');
  EXPECT(pwrite(fd, "abcdefghij", 10, 0) == 10);
  EXPECT(pwrite(fd, "kk", 2, SIZE) == -1 && errno == ENOSPC);
  EXPECT(fsync(fd) == 0 && fdatasync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
  EXPECT(ftruncate(fd, SIZE) == 0 && ftruncate(fd, SIZE + 1) == -1 && errno == EPERM);
  EXPECT(fallocate(fd, 0, 0, SIZE) == 0 && fallocate(fd, 0, 0, SIZE + 1) == -1 && errno == ENOSPC);
  EXPECT(posix_fallocate(fd, 0, SIZE) == 0 && posix_fallocate(fd, 1, SIZE) == ENOSPC);
  EXPECT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1 && errno == EOPNOTSUPP);
  EXPECT(sendfile(pipes[1], fd, &offset, 10) == -1 && errno == EINVAL);
  EXPECT(splice(fd, NULL, pipes[1], NULL, 10, 0) == -1 && errno == EINVAL);
  snprintf(bytes, sizeof bytes, "%s/file", scratch);
  EXPECT((file = open(bytes, O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0);
  EXPECT(copy_file_range(fd, NULL, file, NULL, 10, 0) == -1 && errno == EXDEV);
  close(file);
  EXPECT(flock(fd, LOCK_EX) == 0 && flock(fd, LOCK_UN) == 0);
  close(pipes[0]);
  close(pipes[1]);
  close(fd);
}

static void mapping(void) {
  int fd = open(path, O_RDWR);
  char* shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  char* own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 4096);
  char byte;
  EXPECT(shared != MAP_FAILED && own != MAP_FAILED);
  if (shared == MAP_FAILED || own == MAP_FAILED) return;
  EXPECT(same(shared, 0, SIZE) && same(own, 4096, 4096));
  own[0] = '!';
  shared[5] = '?';
  EXPECT(pread(fd, &byte, 1, 5) == 1 && byte == '?' && pread(fd, &byte, 1, 4096) == 1 && byte == at(4096));
  shared[5] = at(5);
  EXPECT(msync(shared, SIZE, MS_SYNC) == 0);
  munmap(shared, SIZE);
  munmap(own, 4096);
  close(fd);
}

static void descriptors(void) {
  char bytes[8];
  int fd = open(path, O_RDONLY), copy, third;
  EXPECT((copy = dup(fd)) >= 0 && lseek(copy, 50, SEEK_SET) == 50 && lseek(fd, 0, SEEK_CUR) == 50);
  EXPECT(dup2(fd, 100) == 100 && read(100, bytes, 4) == 4 && same(bytes, 50, 4) &&
         lseek(fd, 0, SEEK_CUR) == 54);
  EXPECT(dup3(fd, 101, O_CLOEXEC) == 101 && (fcntl(101, F_GETFD) & FD_CLOEXEC) != 0);
  EXPECT((third = fcntl(fd, F_DUPFD_CLOEXEC, 102)) == 102 && read(third, bytes, 1) == 1);
  /* A copy that fails changes nothing. */
  EXPECT(dup2(999, 100) == -1 && errno == EBADF && pread(100, bytes, 4, 0) == 4);
  /* Something else takes its number. */
  EXPECT((copy = open("/dev/zero", O_RDONLY)) >= 0 && dup2(copy, 100) == 100 && read(100, bytes, 1) == 1);
  EXPECT(bytes[0] == '\0');
  EXPECT(close_range(100, 102, 0) == 0 && fcntl(101, F_GETFD) == -1 && read(101, bytes, 1) == -1 &&
         errno == EBADF);
  EXPECT(close(fd) == 0 && read(fd, bytes, 1) == -1 && errno == EBADF && close(fd) == -1);
  /* Whoever closes all it has leaves the region where it is. */
  closefrom(50);
  EXPECT((fd = open(path, O_RDWR)) >= 0 && pread(fd, bytes, 4, 0) == 4);
  EXPECT((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR && fcntl(fd, F_SETFL, O_APPEND) == 0);
  EXPECT((fcntl(fd, F_GETFL) & O_APPEND) != 0 && write(fd, "x", 1) == -1 && errno == ENOSPC);
  EXPECT(fcntl(fd, F_SETFL, 0) == 0 && write(fd, "a", 1) == 1);
  close(fd);
  close(copy);
}

static void streams(void) {
  char bytes[64];
  FILE* file = fopen(path, "r");
  int fd;
  EXPECT(file != NULL && fileno(file) >= 0 && fread(bytes, 1, 10, file) == 10 && same(bytes, 0, 10));
  EXPECT(fseek(file, -4, SEEK_END) == 0 && fread(bytes, 1, 10, file) == 4 && same(bytes, SIZE - 4, 4) &&
         feof(file));
  EXPECT(ftello(file) == SIZE && fseeko(file, 3, SEEK_SET) == 0 && fgetc(file) == at(3));
  EXPECT(freopen(path, "r", file) == NULL && errno == EOPNOTSUPP);
  EXPECT(fclose(file) == 0);
  EXPECT((file = fopen(path, "r+")) != NULL && fputs("AB", file) >= 0 && fflush(file) == 0);
  EXPECT(pread(fileno(file), bytes, 2, 0) == 2 && memcmp(bytes, "AB", 2) == 0);
  rewind(file);
  EXPECT(fputs("ab", file) >= 0 && fclose(file) == 0);
  /* Streams of a copied descriptor. */
  fd = open(path, O_RDONLY);
  EXPECT((file = fdopen(dup(fd), "r")) != NULL && fread(bytes, 1, 5, file) == 5 && same(bytes, 0, 5));
  EXPECT(fclose(file) == 0 && pread(fd, bytes, 1, 0) == 1);
  close(fd);
  /* The standard input becomes the region, and something else again. */
  EXPECT(freopen(path, "r", stdin) == stdin && fileno(stdin) == 0 && getchar() == at(0) &&
         scanf("%3s", bytes) == 1);
  EXPECT(same(bytes, 1, 3) && freopen(NULL, "rb", stdin) == stdin && getchar() == at(4));
  EXPECT(lseek(0, 30, SEEK_SET) == 30);
  EXPECT(freopen("/dev/null", "r", stdin) != NULL && fileno(stdin) == 0 && getchar() == EOF);
}

/* Characters that are none of the C library's bytes. */
static void wide(void) {
  wchar_t text[16];
  char bytes[8];
  FILE* file = fopen(path, "r+");
  EXPECT(file != NULL && setlocale(LC_ALL, "C.UTF-8") != NULL && fwide(file, 1) > 0);
  EXPECT(fgetwc(file) == L'a' && ungetwc(L'a', file) == L'a' && fgetws(text, 4, file) == text);
  EXPECT(wcscmp(text, L"abc") == 0);
  rewind(file);
  EXPECT(fputws(L"\u00e4", file) >= 0 && fwprintf(file, L"%d\n", 7) == 2 && fflush(file) == 0);
  EXPECT(pread(fileno(file), bytes, 4, 0) == 4 && memcmp(bytes, "\303\2447\n", 4) == 0);
  rewind(file);
  EXPECT(fgetws(text, 16, file) == text && wcscmp(text, L"\u00e47\n") == 0 && getwc(file) == L'e');
  fclose(file);
  EXPECT((file = fopen(path, "r+")) != NULL && fputs("abcd", file) >= 0 && fclose(file) == 0);
}

/* What a library does that is loaded later. */
static void loaded(void) {
  ssize_t (*reads)(int, void*, size_t) = (ssize_t(*)(int, void*, size_t))dlsym(RTLD_DEFAULT, "read");
  int fd = open(path, O_RDONLY);
  char byte;
  EXPECT(reads != NULL && reads(fd, &byte, 1) == 1 && byte == 'a');
  close(fd);
}

struct share {
  int fd;
  unsigned counts[26];
};
static void* take(void* context) {
  struct share* share = context;
  char byte;
  while (read(share->fd, &byte, 1) == 1) ++share->counts[byte - 'a'];
  return NULL;
}
/* Each byte goes to one of those who read. */
static void threads(void) {
  struct share shares[4];
  pthread_t thread[4];
  unsigned i, letter, sum;
  const int fd = open(path, O_RDONLY);
  memset(shares, 0, sizeof shares);
  for (i = 0; i < 4; ++i) {
    shares[i].fd = fd;
    EXPECT(pthread_create(&thread[i], NULL, take, &shares[i]) == 0);
  }
  for (i = 0; i < 4; ++i) pthread_join(thread[i], NULL);
  for (letter = 0; letter < 26; ++letter) {
    for (sum = i = 0; i < 4; ++i) sum += shares[i].counts[letter];
    EXPECT(sum == (SIZE + 25 - letter) / 26);
  }
  close(fd);
}

static int ended(pid_t child) {
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}
static void children(void) {
  char* arguments[5];
  char bytes[8];
  posix_spawn_file_actions_t actions;
  pid_t child;
  int fd = open(path, O_RDONLY);
  FILE* piped;
  arguments[0] = program;
  arguments[1] = (char*)path;
  arguments[2] = scratch;
  arguments[3] = "child";
  arguments[4] = NULL;
  child = fork();
  if (child == 0) _exit(read(fd, bytes, 4) == 4 && same(bytes, 0, 4) ? 0 : 1);
  EXPECT(ended(child) == 0 && lseek(fd, 0, SEEK_CUR) == 4);
  child = fork();
  if (child == 0) {
    dup2(fd, 0);
    execv(program, arguments);
    _exit(127);
  }
  EXPECT(ended(child) == 0);
  /* What the child closes and copies is not closed and copied here. */
  child = vfork();
  if (child == 0) {
    dup2(fd, 0);
    close(fd);
    execv(program, arguments);
    _exit(127);
  }
  EXPECT(ended(child) == 0 && pread(fd, bytes, 4, 0) == 4 && same(bytes, 0, 4) && pread(0, bytes, 1, 0) != 1);
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fd, 0);
  EXPECT(posix_spawn(&child, program, &actions, NULL, arguments, environ) == 0 && ended(child) == 0);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawn_file_actions_init(&actions);
  EXPECT(posix_spawn_file_actions_addopen(&actions, 0, path, O_RDONLY, 0) == 0);
  EXPECT(posix_spawn(&child, program, &actions, NULL, arguments, environ) == 0 && ended(child) == 0);
  posix_spawn_file_actions_destroy(&actions);
  snprintf(bytes, sizeof bytes, "%d", fd);
  EXPECT(setenv("FD", bytes, 1) == 0 && lseek(fd, 0, SEEK_SET) == 0);
  EXPECT(system("read -r line <&$FD; test \"$(printf %.4s \"$line\")\" = abcd") == 0);
  EXPECT((piped = popen("exec head -c 4 \"$REGION\"", "r")) != NULL && fread(bytes, 1, 8, piped) == 4);
  EXPECT(same(bytes, 0, 4) && pclose(piped) == 0);
  close(fd);
}

/* The region is its standard input, and the C library's stream of it can be read. */
static int child(void) {
  char bytes[4];
  const off_t position = lseek(0, 0, SEEK_CUR);
  EXPECT(position >= 0 && fileno(stdin) == 0 && fread(bytes, 1, 4, stdin) == 4 && same(bytes, position, 4));
  EXPECT(getchar() == at(position + 4));
  return wrong;
}

int main(int argc, char** argv) {
  ssize_t length;
  if (argc < 3) {
    fprintf(stderr, "usage: path_calls PATH SCRATCH-DIRECTORY\n");
    return 2;
  }
  path = argv[1];
  snprintf(scratch, sizeof scratch, "%s", argv[2]);
  if (argc > 3) return child();
  length = readlink("/proc/self/exe", program, sizeof program - 1);
  EXPECT(length > 0 && setenv("REGION", path, 1) == 0);
  opening();
  transferring();
  mapping();
  descriptors();
  wide();
  loaded();
  threads();
  children();
  streams();
  return wrong;
}
