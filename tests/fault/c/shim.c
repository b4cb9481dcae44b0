/* LD_PRELOAD: faults on request in the writes of one record (72 bytes) and in fdatasync. Requests are files in the
 * directory $SPECTACLES_FAULT: `pwrite` and `fdatasync` hold an errno, `short` a number of bytes after which a record
 * stops, `slow` the microseconds of every fdatasync; while `hold` exists a record is not written, and the file
 * `held.PID` says who waits there, with the lock of the table in its hands.
 *
 * A new file with a whole table in it (720 bytes) has wishes of its own: `table`, `fsync` and `rename` hold an errno;
 * who is to write it, to make it durable, to rename it, or has renamed it, waits as long as `hold_table`, `hold_fsync`,
 * `hold_rename`, `hold_renamed` exist. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static const char *path_of(const char *name, char *path, size_t size) {
    const char *directory = getenv("SPECTACLES_FAULT");
    if (!directory)
        return NULL;
    snprintf(path, size, "%s/%s", directory, name);
    return path;
}

/* The number in a file, 0 if it does not exist or is empty. */
static int wish(const char *name) {
    char path[4096], text[16] = "";
    if (!path_of(name, path, sizeof path))
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n > 0 ? atoi(text) : 0;
}

static void hold(const char *while_this) {
    char path[4096], name[32];
    snprintf(name, sizeof name, "held.%d", (int)getpid());
    if (!wish(while_this))
        return;
    if (path_of(name, path, sizeof path)) /* once: whoever has read it removes it, and may then kill this process */
        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    while (wish(while_this))
        usleep(1000);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real)
        real = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    if (size == 720) {
        hold("hold_table");
        if ((errno = wish("table")))
            return -1;
    }
    if (size != 72)
        return real(fd, data, size, offset);
    hold("hold");
    int error = wish("pwrite"), part = wish("short");
    if (error) {
        errno = error;
        return -1;
    }
    return real(fd, data, part > 0 && part < (int)size ? (size_t)part : size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return pwrite64(fd, data, size, offset);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    int error = wish("fdatasync"), slow = wish("slow");
    if (slow)
        usleep((useconds_t)slow);
    if (error) {
        errno = error;
        return -1;
    }
    return real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    hold("hold_fsync");
    if ((errno = wish("fsync")))
        return -1;
    return real(fd);
}

int renameat(int from, const char *old, int to, const char *new) {
    static int (*real)(int, const char *, int, const char *);
    if (!real)
        real = (int (*)(int, const char *, int, const char *))dlsym(RTLD_NEXT, "renameat");
    hold("hold_rename");
    if ((errno = wish("rename")))
        return -1;
    int done = real(from, old, to, new);
    hold("hold_renamed");
    return done;
}
