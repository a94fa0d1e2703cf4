/*
 * A host that lacks a feature, or that cannot read one thing: calls of the C library as a program
 * sees them, preloaded into it (ld.so(8), LD_PRELOAD).
 *
 * COLDFRAME_POOR        what is lacking, by the names of `Lack` in poor_host.rs, with commas
 * COLDFRAME_POOR_PATH   a piece of a path that ends where a name does: what the two variables below
 *                       are about, with all that is below it
 * COLDFRAME_POOR_CALLS  of open, read, stat, list: the calls that fail for such a path
 * COLDFRAME_POOR_ERRNO  with what they fail, as a number; for list, the entry is left out
 * COLDFRAME_POOR_FROM   with COLDFRAME_POOR_LEN: only reads of these bytes of such a file fail, and
 *                       those of more are short
 * COLDFRAME_POOR_SYNC   the end of a path: the sync of this very file or directory fails, EIO
 * COLDFRAME_POOR_NAME   a piece of a path that ends where a name does: another spelling of the
 *                       next, as where case is ignored; what is looked for or opened by it is that
 * COLDFRAME_POOR_FOR    what it is a spelling of
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGEMAP_SCAN 0xc0606610UL

/* The call that this one hides. */
#define REAL(name)                                      \
    ({                                                  \
        static __typeof__(&name) real;                  \
        if (!real) real = dlsym(RTLD_NEXT, #name);      \
        real;                                           \
    })

#define REFUSE(number)     \
    do {                   \
        errno = (number);  \
        return -1;         \
    } while (0)

static int listed(const char *variable, const char *word) {
    const char *list = getenv(variable);
    size_t len = strlen(word);
    while (list && *list) {
        size_t item = strcspn(list, ",");
        if (item == len && !strncmp(list, word, len)) return 1;
        list += item;
        if (*list) list++;
    }
    return 0;
}

static int lacks(const char *what) { return listed("COLDFRAME_POOR", what); }

static int is_spoiled(const char *path) {
    const char *piece = getenv("COLDFRAME_POOR_PATH");
    if (!path || !piece || !*piece) return 0;
    while ((path = strstr(path, piece))) {
        char next = path[strlen(piece)];
        if (!next || next == '/') return 1;
        path++;
    }
    return 0;
}

/* The errno of a call on a path, or 0. */
static int spoil(const char *call, const char *path) {
    const char *number = getenv("COLDFRAME_POOR_ERRNO");
    if (!number || !listed("COLDFRAME_POOR_CALLS", call) || !is_spoiled(path)) return 0;
    return atoi(number);
}

static const char *path_of(int fd, char *room) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t len = syscall(SYS_readlink, name, room, PATH_MAX);
    room[len < 0 ? 0 : len] = 0;
    return room;
}

static int spoil_fd(const char *call, int fd) {
    char room[PATH_MAX + 1];
    if (!getenv("COLDFRAME_POOR_CALLS") || !listed("COLDFRAME_POOR_CALLS", call)) return 0;
    return spoil(call, path_of(fd, room));
}

/* A path below a directory that is open, for what is only matched. */
static const char *path_at(int dir, const char *path, char *room, size_t size) {
    char above[PATH_MAX + 1];
    if (!path || *path == '/' || dir == AT_FDCWD) return path;
    snprintf(room, size, "%s/%s", path_of(dir, above), path);
    return room;
}

/* The path by the spelling that its file has. */
static const char *spelled(const char *path, char *room, size_t size) {
    const char *name = getenv("COLDFRAME_POOR_NAME"), *real = getenv("COLDFRAME_POOR_FOR");
    const char *at = path && name && real && *name ? strstr(path, name) : NULL;
    if (!at) return path;
    const char *rest = at + strlen(name);
    if (*rest && *rest != '/') return path;
    snprintf(room, size, "%.*s%s%s", (int)(at - path), path, real, rest);
    return room;
}

/* What every call on a path is asked first: the errno, or 0. */
static int look(const char *call, const char *path) {
    if (path && lacks("no-proc") && !strncmp(path, "/proc/", 6)) return ENOENT;
    return spoil(call, path);
}

/* Interrupts every other call of a thread. */
static int interrupted(void) {
    static __thread int turn;
    return lacks("interrupts") && (turn = !turn);
}

static size_t less(size_t count) {
    return count > 1 && lacks("short-calls") ? (count + 1) / 2 : count;
}

/* open */

static int open_mode(int flags, va_list list) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(list, int) : 0;
}

static int open_at(int dir, const char *path, int flags, int mode) {
    char room[2 * PATH_MAX + 2];
    int number = look("open", path_at(dir, path, room, sizeof room));
    if (number) REFUSE(number);
    if ((flags & O_TMPFILE) == O_TMPFILE && lacks("no-tmpfile")) REFUSE(EOPNOTSUPP);
    return REAL(openat64)(dir, spelled(path, room, sizeof room), flags, mode);
}

#define OPEN(name)                                   \
    int name(const char *path, int flags, ...) {     \
        va_list list;                                \
        va_start(list, flags);                       \
        int mode = open_mode(flags, list);           \
        va_end(list);                                \
        return open_at(AT_FDCWD, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                      \
    int name(int dir, const char *path, int flags, ...) { \
        va_list list;                                     \
        va_start(list, flags);                            \
        int mode = open_mode(flags, list);                \
        va_end(list);                                     \
        return open_at(dir, path, flags, mode);           \
    }
OPENAT(openat)
OPENAT(openat64)

DIR *opendir(const char *path) {
    int number = look("open", path);
    if (number) {
        errno = number;
        return NULL;
    }
    char room[2 * PATH_MAX + 2];
    return REAL(opendir)(spelled(path, room, sizeof room));
}

/* stat */

/* As vfat and SMB show them: write bits for the owner, always. */
static void show_mode(unsigned short *mode) {
    if (lacks("no-modes")) *mode = (*mode & S_IFMT) | 0755;
}

int statx(int dir, const char *path, int flags, unsigned mask, struct statx *found) {
    char room[2 * PATH_MAX + 2];
    /* Rust's library asks with no path at all whether there is the call. */
    const char *volatile given = path;
    int of_fd = !given || !*given;
    int number = of_fd ? spoil_fd("stat", dir)
                       : look("stat", path_at(dir, path, room, sizeof room));
    if (number) REFUSE(number);
    if (!of_fd) path = spelled(path, room, sizeof room);
    int result = REAL(statx)(dir, path, flags, mask, found);
    if (!result) show_mode(&found->stx_mode);
    return result;
}

#define STAT(name, type)                                   \
    int name(const char *path, struct type *found) {       \
        int number = look("stat", path);                   \
        if (number) REFUSE(number);                        \
        char room[2 * PATH_MAX + 2];                       \
        int result = REAL(name)(spelled(path, room, sizeof room), found); \
        if (!result && lacks("no-modes"))                  \
            found->st_mode = (found->st_mode & S_IFMT) | 0755; \
        return result;                                     \
    }
STAT(stat, stat)
STAT(lstat, stat)
STAT(stat64, stat64)
STAT(lstat64, stat64)

/* list */

static int is_left_out(DIR *dir, const char *name) {
    char above[PATH_MAX + 1], room[2 * PATH_MAX + 2];
    if (!listed("COLDFRAME_POOR_CALLS", "list")) return 0;
    snprintf(room, sizeof room, "%s/%s", path_of(dirfd(dir), above), name);
    return is_spoiled(room);
}

/* Of a directory that cannot be read not one entry is given. */
#define READDIR(name, type)                                      \
    struct type *name(DIR *dir) {                                \
        struct type *entry;                                      \
        int number = spoil_fd("read", dirfd(dir));               \
        if (number) {                                            \
            errno = number;                                      \
            return NULL;                                         \
        }                                                        \
        do entry = REAL(name)(dir);                              \
        while (entry && is_left_out(dir, entry->d_name));        \
        return entry;                                            \
    }
READDIR(readdir, dirent)
READDIR(readdir64, dirent64)

/* read and write */

#define COUNTED(name, call, place, arguments)       \
    ssize_t name place {                            \
        int number = spoil_fd(call, fd);            \
        if (number) REFUSE(number);                 \
        if (interrupted()) REFUSE(EINTR);           \
        return REAL(name) arguments;                \
    }

/* How many of the bytes at an offset can be read, before the first that cannot. */
static size_t sound(int fd, size_t count, off64_t at) {
    const char *start = getenv("COLDFRAME_POOR_FROM"), *length = getenv("COLDFRAME_POOR_LEN");
    if (!start || !length) return spoil_fd("read", fd) ? 0 : count;
    off64_t from = atoll(start), until = from + atoll(length);
    if (at >= until || at + (off64_t)count <= from || !spoil_fd("read", fd)) return count;
    return at < from ? (size_t)(from - at) : 0;
}

#define READ(name, place, start, arguments)          \
    ssize_t name place {                             \
        size_t wanted = count;                       \
        count = sound(fd, count, start);             \
        if (!count && wanted) {                      \
            int number = spoil_fd("read", fd);       \
            if (number) REFUSE(number);              \
        }                                            \
        if (interrupted()) REFUSE(EINTR);            \
        return REAL(name) arguments;                 \
    }
READ(read, (int fd, void *to, size_t count), lseek64(fd, 0, SEEK_CUR), (fd, to, less(count)))
READ(pread, (int fd, void *to, size_t count, off_t at), at, (fd, to, less(count), at))
READ(pread64, (int fd, void *to, size_t count, off64_t at), at, (fd, to, less(count), at))
COUNTED(write, "write", (int fd, const void *from, size_t count), (fd, from, less(count)))
COUNTED(pwrite, "write", (int fd, const void *from, size_t count, off_t at),
        (fd, from, less(count), at))
COUNTED(pwrite64, "write", (int fd, const void *from, size_t count, off64_t at),
        (fd, from, less(count), at))

/* The first part alone, or less of it. */
#define VECTORED(name, type, single)                                               \
    ssize_t name(int fd, const struct iovec *parts, int count, type at) {          \
        if (interrupted()) REFUSE(EINTR);                                          \
        if (count > 0 && parts[0].iov_len > 0 && lacks("short-calls"))             \
            return REAL(single)(fd, parts[0].iov_base, less(parts[0].iov_len), at); \
        return REAL(name)(fd, parts, count, at);                                   \
    }
VECTORED(pwritev, off_t, pwrite)
VECTORED(pwritev64, off64_t, pwrite64)

/* locks */

int flock(int fd, int how) {
    struct stat found;
    if (interrupted()) REFUSE(EINTR);
    if (lacks("no-flock")) REFUSE(EOPNOTSUPP);
    if (lacks("no-locks-left")) REFUSE(ENOLCK);
    if (how & LOCK_EX && lacks("flock-needs-write") && !REAL(fstat)(fd, &found) &&
        S_ISREG(found.st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
        REFUSE(EBADF);
    return REAL(flock)(fd, how);
}

/* sync */

/* Whether a path ends as COLDFRAME_POOR_SYNC says: that thing alone, and not what is below it. */
static int is_unsynced(int fd) {
    char room[PATH_MAX + 1];
    const char *end = getenv("COLDFRAME_POOR_SYNC");
    if (!end || !*end) return 0;
    size_t len = strlen(path_of(fd, room)), end_len = strlen(end);
    return len >= end_len && !strcmp(room + len - end_len, end);
}

int fsync(int fd) {
    struct stat found;
    if (is_unsynced(fd)) REFUSE(EIO);
    if (lacks("no-directory-sync") && !REAL(fstat)(fd, &found) && S_ISDIR(found.st_mode))
        REFUSE(EINVAL);
    /* The disk itself fails: for the proof that the tests can fail. */
    if (lacks("broken-directory-sync") && !REAL(fstat)(fd, &found) && S_ISDIR(found.st_mode))
        REFUSE(EIO);
    return REAL(fsync)(fd);
}

/* names */

int link(const char *from, const char *to) {
    if (lacks("no-links")) REFUSE(EPERM);
    return REAL(link)(from, to);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    if (lacks("no-links")) REFUSE(EPERM);
    return REAL(linkat)(from_dir, from, to_dir, to, flags);
}

static int is_fixed(const char *from) {
    struct stat found;
    return lacks("no-directory-rename") && !REAL(lstat)(from, &found) && S_ISDIR(found.st_mode);
}

int rename(const char *from, const char *to) {
    if (is_fixed(from)) REFUSE(EXDEV);
    return REAL(rename)(from, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    if (flags && lacks("no-rename-flags")) REFUSE(EINVAL);
    if (is_fixed(from)) REFUSE(EXDEV);
    return REAL(renameat2)(from_dir, from, to_dir, to, flags);
}

/* modes */

int fchmod(int fd, mode_t mode) {
    if (lacks("no-modes")) return 0;
    if (lacks("no-chmod")) REFUSE(EPERM);
    return REAL(fchmod)(fd, mode);
}

int chmod(const char *path, mode_t mode) {
    if (lacks("no-modes")) return 0;
    if (lacks("no-chmod")) REFUSE(EPERM);
    return REAL(chmod)(path, mode);
}

/* holes and space */

#define LSEEK(name, type)                                              \
    type name(int fd, type at, int whence) {                           \
        if ((whence == SEEK_DATA || whence == SEEK_HOLE) && lacks("no-holes")) { \
            struct stat found;                                         \
            if (REAL(fstat)(fd, &found)) return -1;                    \
            if (at >= found.st_size) REFUSE(ENXIO);                    \
            at = whence == SEEK_DATA ? at : found.st_size;             \
            whence = SEEK_SET;                                         \
        }                                                              \
        return REAL(name)(fd, at, whence);                             \
    }
LSEEK(lseek, off_t)
LSEEK(lseek64, off64_t)

#define FALLOCATE(name, type)                                 \
    int name(int fd, int mode, type at, type len) {           \
        if (lacks("no-fallocate")) REFUSE(EOPNOTSUPP);        \
        return REAL(name)(fd, mode, at, len);                 \
    }
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

/* the kernel's newer calls */

int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (request == PAGEMAP_SCAN && lacks("no-pagemap-scan")) REFUSE(EPERM);
    return REAL(ioctl)(fd, request, argument);
}

long syscall(long number, ...) {
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_userfaultfd && lacks("no-userfaultfd")) REFUSE(EPERM);
    if (number == SYS_renameat2 && a[4] && lacks("no-rename-flags")) REFUSE(EINVAL);
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
