/* A disk that fails, for LD_PRELOAD: calls on files below one folder, from the n-th on.
 *
 *   fault_begin(root, kind, after): from now on; `after` bytes (FULL) or calls succeed before.
 *   fault_end(): back to the real disk; how many bytes or calls were counted.
 *   fault_hits(): how many calls failed, or were delayed, since fault_begin.
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

enum { NONE, FULL, READ_ONLY, NO_PERMISSION, SYNC_FAILS, WRITE_FAILS, SLOW };
enum { PATH_CALL = 1, WRITE_CALL = 2, SYNC_CALL = 4 };

static char root[PATH_MAX];
static _Atomic int kind = NONE;
static _Atomic long count, limit, hits;

void fault_begin(const char *folder, int what, long after) {
  strncpy(root, folder, sizeof root - 1);
  count = hits = 0;
  limit = after;
  kind = what;
}

long fault_end(void) {
  kind = NONE;
  return count;
}

long fault_hits(void) { return hits; }

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
    case SLOW:
      if (++count > limit) { hits++; usleep(3000); }
      return 0;
  }
  return 0;
}

/* On a disk that is full some calls still work: `size` 1 for those that need no space. */
#define PATH_FAILS(dirfd, name, size) (path_below(dirfd, name) && fails(PATH_CALL, size))

#define OPEN(name)                                                              \
  int name(const char *path, int flags, ...) {                                  \
    va_list rest;                                                               \
    va_start(rest, flags);                                                      \
    mode_t mode = va_arg(rest, mode_t);                                         \
    va_end(rest);                                                               \
    if (flags & (O_WRONLY | O_RDWR | O_CREAT) && PATH_FAILS(AT_FDCWD, path, 1)) \
      return -1;                                                                \
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
    if (flags & (O_WRONLY | O_RDWR | O_CREAT) && PATH_FAILS(dirfd, path, 1)) \
      return -1;                                                             \
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
int fsync(int fd) { return fd_below(fd) && fails(SYNC_CALL, 0) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fd_below(fd) && fails(SYNC_CALL, 0) ? -1 : REAL(fdatasync)(fd); }

/* For a program that does not call fault_begin itself. */
__attribute__((constructor)) static void from_environment(void) {
  const char *folder = getenv("FAULT_ROOT"), *what = getenv("FAULT_KIND");
  const char *after = getenv("FAULT_AFTER");
  if (folder && what && after) fault_begin(folder, atoi(what), atol(after));
}
