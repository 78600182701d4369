/* A disk that fails, for LD_PRELOAD: calls on files below one folder, from the n-th on.
 *
 *   fault_begin(root, kind, after): from now on; `after` bytes (FULL) or calls succeed before.
 *   fault_end(): back to the real disk.
 *   fault_hits(): how many calls failed, or were delayed, since fault_begin.
 *   fault_counted(kind): how many bytes or calls of a kind there were since fault_begin of COUNT,
 *     which lets all succeed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
  NONE, FULL, READ_ONLY, NO_PERMISSION, SYNC_FAILS, WRITE_FAILS, SLOW, READ_FAILS, NO_DESCRIPTORS,
  COUNT, KINDS
};
enum { PATH_CALL, WRITE_CALL, SYNC_CALL, READ_CALL, OPEN_CALL };

static char root[PATH_MAX];
static _Atomic int kind = NONE;
static _Atomic long count, limit, hits, counted[KINDS];

void fault_begin(const char *folder, int what, long after) {
  strncpy(root, folder, sizeof root - 1);
  count = hits = 0;
  for (int i = 0; i < KINDS; i++) counted[i] = 0;
  limit = after;
  kind = what;
}

void fault_end(void) { kind = NONE; }

long fault_hits(void) { return hits; }

long fault_counted(int what) { return counted[what]; }

#define REAL(name) ((typeof(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int below(const char *path) { return strncmp(path, root, strlen(root)) == 0; }

static int place_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, PATH_MAX - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return 1;
}

static int fd_below(int fd) {
  char path[PATH_MAX];
  return kind != NONE && place_of(fd, path) && below(path);
}

static int path_below(int dirfd, const char *name) {
  char path[2 * PATH_MAX];
  if (kind == NONE || !name) return 0;
  if (name[0] == '/') return below(name);
  if (dirfd == AT_FDCWD) {
    if (!getcwd(path, PATH_MAX)) return 0;
  } else if (!place_of(dirfd, path)) {
    return 0;
  }
  strncat(path, "/", PATH_MAX - 1);
  strncat(path, name, PATH_MAX - 1);
  return below(path);
}

static int failure(int code) {
  hits++;
  errno = code;
  return 1;
}

static int tally(int call, long size) {
  counted[FULL] += call == WRITE_CALL ? size : 0;
  counted[WRITE_FAILS] += call == WRITE_CALL;
  counted[READ_ONLY] += call == PATH_CALL;
  counted[NO_PERMISSION] += call == PATH_CALL;
  counted[SYNC_FAILS] += call == SYNC_CALL;
  counted[READ_FAILS] += call == READ_CALL;
  counted[NO_DESCRIPTORS] += call == OPEN_CALL;
  return 0;
}

/* Whether a call fails; `size` bytes are about to be written. */
static int fails(int call, long size) {
  switch (kind) {
    case FULL:
      if (call == WRITE_CALL) return (count += size) > limit ? failure(ENOSPC) : 0;
      return call == PATH_CALL && count > limit && !size ? failure(ENOSPC) : 0;
    case READ_ONLY:
    case NO_PERMISSION:
      if (call != PATH_CALL || ++count <= limit) return 0;
      return failure(kind == READ_ONLY ? EROFS : EACCES);
    case SYNC_FAILS:
      return call == SYNC_CALL && ++count > limit ? failure(EIO) : 0;
    case WRITE_FAILS:
      return call == WRITE_CALL && ++count > limit ? failure(EIO) : 0;
    case READ_FAILS:
      return call == READ_CALL && ++count > limit ? failure(EIO) : 0;
    case NO_DESCRIPTORS:
      return call == OPEN_CALL && ++count > limit ? failure(EMFILE) : 0;
    case COUNT:
      return tally(call, size);
    case SLOW:
      if (call == READ_CALL || call == OPEN_CALL) return 0;
      if (++count > limit) { hits++; usleep(3000); }
      return 0;
  }
  return 0;
}

/* On a disk that is full some calls still work: `size` 1 for those that need no space. */
#define PATH_FAILS(dirfd, name, size) (path_below(dirfd, name) && fails(PATH_CALL, size))

#define OPEN_FAILS(dirfd, name, flags)                                  \
  (path_below(dirfd, name) &&                                           \
   fails(flags & (O_WRONLY | O_RDWR | O_CREAT) ? PATH_CALL : OPEN_CALL, 1))

#define OPEN(name)                                                              \
  int name(const char *path, int flags, ...) {                                  \
    va_list rest;                                                               \
    va_start(rest, flags);                                                      \
    mode_t mode = va_arg(rest, mode_t);                                         \
    va_end(rest);                                                               \
    if (OPEN_FAILS(AT_FDCWD, path, flags)) return -1;                           \
    return REAL(name)(path, flags, mode);                                       \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                         \
  int name(int dirfd, const char *path, int flags, ...) {                    \
    va_list rest;                                                            \
    va_start(rest, flags);                                                   \
    mode_t mode = va_arg(rest, mode_t);                                      \
    va_end(rest);                                                            \
    if (OPEN_FAILS(dirfd, path, flags)) return -1;                           \
    return REAL(name)(dirfd, path, flags, mode);                             \
  }
OPENAT(openat)
OPENAT(openat64)

int mkdir(const char *path, mode_t mode) {
  return PATH_FAILS(AT_FDCWD, path, 0) ? -1 : REAL(mkdir)(path, mode);
}
int mkdirat(int dirfd, const char *path, mode_t mode) {
  return PATH_FAILS(dirfd, path, 0) ? -1 : REAL(mkdirat)(dirfd, path, mode);
}
int rename(const char *from, const char *to) {
  return PATH_FAILS(AT_FDCWD, to, 1) ? -1 : REAL(rename)(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
  return PATH_FAILS(b, to, 1) ? -1 : REAL(renameat)(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
  return PATH_FAILS(b, to, 1) ? -1 : REAL(renameat2)(a, from, b, to, flags);
}
int unlink(const char *path) { return PATH_FAILS(AT_FDCWD, path, 1) ? -1 : REAL(unlink)(path); }
int unlinkat(int dirfd, const char *path, int flags) {
  return PATH_FAILS(dirfd, path, 1) ? -1 : REAL(unlinkat)(dirfd, path, flags);
}
int rmdir(const char *path) { return PATH_FAILS(AT_FDCWD, path, 1) ? -1 : REAL(rmdir)(path); }

ssize_t write(int fd, const void *data, size_t size) {
  return fd_below(fd) && fails(WRITE_CALL, size) ? -1 : REAL(write)(fd, data, size);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
  long size = 0;
  for (int i = 0; i < n; i++) size += parts[i].iov_len;
  return fd_below(fd) && fails(WRITE_CALL, size) ? -1 : REAL(writev)(fd, parts, n);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  return fd_below(fd) && fails(WRITE_CALL, size) ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  return fd_below(fd) && fails(WRITE_CALL, size) ? -1 : REAL(pwrite64)(fd, data, size, at);
}
ssize_t read(int fd, void *data, size_t size) {
  return fd_below(fd) && fails(READ_CALL, 0) ? -1 : REAL(read)(fd, data, size);
}
int fsync(int fd) { return fd_below(fd) && fails(SYNC_CALL, 0) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fd_below(fd) && fails(SYNC_CALL, 0) ? -1 : REAL(fdatasync)(fd); }

/* For a program that does not call fault_begin itself. */
__attribute__((constructor)) static void from_environment(void) {
  const char *folder = getenv("FAULT_ROOT"), *what = getenv("FAULT_KIND");
  const char *after = getenv("FAULT_AFTER");
  if (folder && what && after) fault_begin(folder, atoi(what), atol(after));
}
