/* LD_PRELOAD: what the file systems of shared folders refuse (VirtualBox, WSL, cifs, sshfs, 9p, vfat).
 * $REFUSE is a list of words, $REFUSE_ERRNO the number that each of these calls then fails with:
 * dirsync: fsync of a directory. filesync: of a file, and fdatasync. chmod: fchmod. mkfifo. flock. link: a hard link.
 * replace: rename over a name that is in use. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name, ...) ((int (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static int refused(const char *what) {
    const char *list = getenv("REFUSE"), *number = getenv("REFUSE_ERRNO");
    if (!list || !number || !strstr(list, what))
        return 0;
    errno = atoi(number);
    return 1;
}

static int is_directory(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

int fsync(int fd) {
    return refused(is_directory(fd) ? "dirsync" : "filesync") ? -1 : REAL(fsync, int)(fd);
}

int fdatasync(int fd) {
    return refused("filesync") ? -1 : REAL(fdatasync, int)(fd);
}

int fchmod(int fd, mode_t mode) {
    return refused("chmod") ? -1 : REAL(fchmod, int, mode_t)(fd, mode);
}

int mkfifoat(int fd, const char *path, mode_t mode) {
    return refused("mkfifo") ? -1 : REAL(mkfifoat, int, const char *, mode_t)(fd, path, mode);
}

int flock(int fd, int operation) {
    return refused("flock") ? -1 : REAL(flock, int, int)(fd, operation);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    return refused("link") ? -1 : REAL(linkat, int, const char *, int, const char *, int)(from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new) {
    struct stat status;
    if (fstatat(to, new, &status, AT_SYMLINK_NOFOLLOW) == 0 && refused("replace"))
        return -1;
    return REAL(renameat, int, const char *, int, const char *)(from, old, to, new);
}
