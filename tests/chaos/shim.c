/* Stands between a program and the C library (LD_PRELOAD): counts the calls that change files under some folders,
 * and at the n-th one kills the program, or lets this call (or all from it on) fail with an error.
 *
 * Nothing happens before chaos_arm. Children that are forked inherit what it set, and share the counter, so that
 * the n-th call of a program with workers is one of any of them. What maps files or calls the kernel by itself is
 * not seen: kills after a time reach it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MODE_COUNT, MODE_KILL_ALL, MODE_KILL_ONE, MODE_TORN, MODE_FAIL_ONCE, MODE_FAIL_ON };
enum {
    K_CREATE = 1, K_WRITE = 2, K_SYNC = 4, K_CLOSE = 8, K_RENAME = 16, K_REMOVE = 32, K_MKDIR = 64, K_ATTR = 128,
    K_OPEN = 256, K_READ = 512,
};
static const char *const NAMES[] = {"create", "write", "sync", "close", "rename", "remove", "mkdir", "attr", "open",
                                    "read"};
#define ROOTS 8
#define TORN (-1)

static struct {
    int mode, error, log, roots;
    unsigned kinds;
    long at;
    char root[ROOTS][PATH_MAX];
    volatile long *calls; /* [0]: of these kinds so far; [1]: the call that was hit */
} plan = {.log = -1};
static volatile int armed;

/* roots: one a line. counter: a file of two longs. log: a file that gets a line a call, or "". */
int chaos_arm(const char *roots, const char *counter, const char *log, int mode, long at, int error, unsigned kinds)
{
    int fd = open(counter, O_RDWR);
    if (fd < 0)
        return -1;
    plan.calls = mmap(NULL, 2 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (plan.calls == MAP_FAILED)
        return -1;
    for (plan.roots = 0; *roots && plan.roots < ROOTS; plan.roots++) {
        size_t length = strcspn(roots, "\n");
        if (length >= PATH_MAX)
            return -1;
        memcpy(plan.root[plan.roots], roots, length);
        plan.root[plan.roots][length] = 0;
        roots += length + (roots[length] == '\n');
    }
    plan.log = *log ? open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    plan.mode = mode, plan.at = at, plan.error = error, plan.kinds = kinds;
    armed = 1;
    return 0;
}

static int under(const char *path)
{
    for (int i = 0; i < plan.roots; i++) {
        size_t length = strlen(plan.root[i]);
        if (!strncmp(path, plan.root[i], length) && (!path[length] || path[length] == '/'))
            return 1;
    }
    return 0;
}

/* The path that a descriptor is of; "" for pipes and the like */
static const char *of_fd(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length > 0 && *path == '/' ? length : 0] = 0;
    return path;
}

static const char *at_path(int dir, const char *name, char *path)
{
    if (*name == '/')
        return name;
    if (dir == AT_FDCWD) {
        if (!getcwd(path, PATH_MAX))
            return "";
    } else {
        of_fd(dir, path);
    }
    size_t length = strlen(path);
    snprintf(path + length, PATH_MAX - length, "/%s", name);
    return path;
}

static void note(const char *word, long n, unsigned kind, const char *path)
{
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s %ld %s %s\n", word, n, NAMES[__builtin_ctz(kind)], path);
    if (plan.log >= 0)
        syscall(SYS_write, plan.log, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
}

/* 0: go on; TORN: write a half, then call die; else the error that the call is to return */
static int decide(unsigned kind, const char *path)
{
    if (!(plan.kinds & kind) || !under(path))
        return 0;
    long n = __sync_add_and_fetch(&plan.calls[0], 1);
    note("call", n, kind, path);
    if (plan.mode == MODE_COUNT || n < plan.at || (n > plan.at && plan.mode != MODE_FAIL_ON))
        return 0;
    if (n == plan.at) {
        plan.calls[1] = n;
        note("hit", n, kind, path);
    }
    if (plan.mode == MODE_FAIL_ONCE || plan.mode == MODE_FAIL_ON)
        return plan.error;
    if (plan.mode == MODE_TORN && kind == K_WRITE)
        return TORN;
    kill(plan.mode == MODE_KILL_ONE ? getpid() : 0, SIGKILL);
    for (;;)
        pause();
}

static void die(void)
{
    kill(0, SIGKILL);
    for (;;)
        pause();
}

#define REAL(type, name, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (!real)                                                                                                         \
    real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define REFUSE(kind, path, failed)                                                                                     \
    do {                                                                                                               \
        int refused = decide(kind, path);                                                                              \
        if (refused) {                                                                                                 \
            errno = refused;                                                                                           \
            return failed;                                                                                             \
        }                                                                                                              \
    } while (0)

#define WRITES(flags) ((flags) & (O_CREAT | O_TRUNC) || ((flags) & O_ACCMODE) != O_RDONLY)

/* open, openat: with and without 64 */
#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        REAL(int, #name, const char *, int, ...);                                                                      \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                      \
        va_end(rest);                                                                                                  \
        char full[PATH_MAX];                                                                                           \
        if (armed)                                                                                                     \
            REFUSE(WRITES(flags) ? K_CREATE : K_OPEN, at_path(AT_FDCWD, path, full), -1);                              \
        return real(path, flags, mode);                                                                                \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int dir, const char *path, int flags, ...)                                                                \
    {                                                                                                                  \
        REAL(int, #name, int, const char *, int, ...);                                                                 \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                      \
        va_end(rest);                                                                                                  \
        char full[PATH_MAX];                                                                                           \
        if (armed)                                                                                                     \
            REFUSE(WRITES(flags) ? K_CREATE : K_OPEN, at_path(dir, path, full), -1);                                   \
        return real(dir, path, flags, mode);                                                                           \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                                                                    \
    FILE *name(const char *path, const char *mode)                                                                     \
    {                                                                                                                  \
        REAL(FILE *, #name, const char *, const char *);                                                               \
        char full[PATH_MAX];                                                                                           \
        if (armed)                                                                                                     \
            REFUSE(*mode == 'r' && !strchr(mode, '+') ? K_OPEN : K_CREATE, at_path(AT_FDCWD, path, full), NULL);       \
        return real(path, mode);                                                                                       \
    }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    char path[PATH_MAX];
    int refused = armed && fd != plan.log ? decide(K_WRITE, of_fd(fd, path)) : 0;
    if (refused == TORN) {
        real(fd, data, size / 2);
        die();
    }
    if (refused) {
        errno = refused;
        return -1;
    }
    return real(fd, data, size);
}

#define PWRITE(name)                                                                                                   \
    ssize_t name(int fd, const void *data, size_t size, off64_t at)                                                    \
    {                                                                                                                  \
        REAL(ssize_t, #name, int, const void *, size_t, off64_t);                                                      \
        char path[PATH_MAX];                                                                                           \
        int refused = armed ? decide(K_WRITE, of_fd(fd, path)) : 0;                                                    \
        if (refused == TORN) {                                                                                         \
            real(fd, data, size / 2, at);                                                                              \
            die();                                                                                                     \
        }                                                                                                              \
        if (refused) {                                                                                                 \
            errno = refused;                                                                                           \
            return -1;                                                                                                 \
        }                                                                                                              \
        return real(fd, data, size, at);                                                                               \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

/* The other calls: a kind, and the path that it is about */
#define CALL(type, name, kind, path, failed, parameters, types, arguments)                                             \
    type name parameters                                                                                               \
    {                                                                                                                  \
        static type(*real) types;                                                                                      \
        if (!real)                                                                                                     \
            real = (type(*) types)dlsym(RTLD_NEXT, #name);                                                             \
        char full[PATH_MAX];                                                                                           \
        (void)full;                                                                                                    \
        if (armed) {                                                                                                   \
            int refused = decide(kind, path);                                                                          \
            if (refused == TORN)                                                                                       \
                die();                                                                                                 \
            if (refused) {                                                                                             \
                errno = refused;                                                                                       \
                return failed;                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
        return real arguments;                                                                                         \
    }
#define FD(kind_, type, name, parameters, types, arguments)                                                            \
    CALL(type, name, kind_, of_fd(fd, full), -1, parameters, types, arguments)
#define PATH_(kind_, name, parameters, types, arguments)                                                               \
    CALL(int, name, kind_, at_path(AT_FDCWD, path, full), -1, parameters, types, arguments)
#define AT(kind_, name, parameters, types, arguments)                                                                  \
    CALL(int, name, kind_, at_path(dir, path, full), -1, parameters, types, arguments)

FD(K_WRITE, ssize_t, writev, (int fd, const struct iovec *parts, int count), (int, const struct iovec *, int),
   (fd, parts, count))
FD(K_WRITE, ssize_t, sendfile, (int fd, int from, off_t *at, size_t size), (int, int, off_t *, size_t),
   (fd, from, at, size))
FD(K_WRITE, ssize_t, sendfile64, (int fd, int from, off64_t *at, size_t size), (int, int, off64_t *, size_t),
   (fd, from, at, size))
CALL(ssize_t, copy_file_range, K_WRITE, of_fd(to, full), -1,
     (int from, off64_t *start, int to, off64_t *at, size_t size, unsigned flags),
     (int, off64_t *, int, off64_t *, size_t, unsigned), (from, start, to, at, size, flags))
FD(K_ATTR, int, ftruncate, (int fd, off_t size), (int, off_t), (fd, size))
FD(K_ATTR, int, ftruncate64, (int fd, off64_t size), (int, off64_t), (fd, size))
FD(K_ATTR, int, fchmod, (int fd, mode_t mode), (int, mode_t), (fd, mode))
FD(K_SYNC, int, fsync, (int fd), (int), (fd))
FD(K_SYNC, int, fdatasync, (int fd), (int), (fd))
FD(K_READ, ssize_t, read, (int fd, void *data, size_t size), (int, void *, size_t), (fd, data, size))
FD(K_READ, ssize_t, pread, (int fd, void *data, size_t size, off_t at), (int, void *, size_t, off_t),
   (fd, data, size, at))
FD(K_READ, ssize_t, pread64, (int fd, void *data, size_t size, off64_t at), (int, void *, size_t, off64_t),
   (fd, data, size, at))
PATH_(K_ATTR, truncate, (const char *path, off_t size), (const char *, off_t), (path, size))
PATH_(K_ATTR, chmod, (const char *path, mode_t mode), (const char *, mode_t), (path, mode))
AT(K_ATTR, fchmodat, (int dir, const char *path, mode_t mode, int flags), (int, const char *, mode_t, int),
   (dir, path, mode, flags))
AT(K_ATTR, utimensat, (int dir, const char *path, const struct timespec times[2], int flags),
   (int, const char *, const struct timespec *, int), (dir, path, times, flags))
PATH_(K_MKDIR, mkdir, (const char *path, mode_t mode), (const char *, mode_t), (path, mode))
AT(K_MKDIR, mkdirat, (int dir, const char *path, mode_t mode), (int, const char *, mode_t), (dir, path, mode))
PATH_(K_REMOVE, unlink, (const char *path), (const char *), (path))
AT(K_REMOVE, unlinkat, (int dir, const char *path, int flags), (int, const char *, int), (dir, path, flags))
PATH_(K_REMOVE, rmdir, (const char *path), (const char *), (path))
PATH_(K_REMOVE, remove, (const char *path), (const char *), (path))
CALL(int, rename, K_RENAME, at_path(AT_FDCWD, to, full), -1, (const char *from, const char *to),
     (const char *, const char *), (from, to))
CALL(int, renameat, K_RENAME, at_path(dir, to, full), -1, (int source, const char *from, int dir, const char *to),
     (int, const char *, int, const char *), (source, from, dir, to))
CALL(int, renameat2, K_RENAME, at_path(dir, to, full), -1,
     (int source, const char *from, int dir, const char *to, unsigned flags),
     (int, const char *, int, const char *, unsigned), (source, from, dir, to, flags))
CALL(int, link, K_CREATE, at_path(AT_FDCWD, to, full), -1, (const char *from, const char *to),
     (const char *, const char *), (from, to))
CALL(int, linkat, K_CREATE, at_path(dir, to, full), -1,
     (int source, const char *from, int dir, const char *to, int flags), (int, const char *, int, const char *, int),
     (source, from, dir, to, flags))
CALL(int, symlink, K_CREATE, at_path(AT_FDCWD, to, full), -1, (const char *from, const char *to),
     (const char *, const char *), (from, to))
CALL(int, symlinkat, K_CREATE, at_path(dir, to, full), -1, (const char *from, int dir, const char *to),
     (const char *, int, const char *), (from, dir, to))

/* Closes in any case, as the kernel does; only what may have been written to can report that it was not */
int close(int fd)
{
    REAL(int, "close", int);
    char path[PATH_MAX];
    int refused = 0;
    if (armed && (plan.kinds & K_CLOSE)) {
        int flags = fcntl(fd, F_GETFL);
        if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
            refused = decide(K_CLOSE, of_fd(fd, path));
    }
    if (refused == TORN)
        die();
    int result = real(fd);
    if (refused) {
        errno = refused;
        return -1;
    }
    return result;
}
