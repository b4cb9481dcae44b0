/* LD_PRELOAD: named semaphores where musl puts them, /dev/shm/NAME, instead of glibc's /dev/shm/sem.NAME. As in musl,
 * the file is made under another name and linked into its place, and opening an empty one is deadly. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int path_of(const char *name, char *path, size_t size) {
    while (*name == '/')
        name++;
    return snprintf(path, size, "/dev/shm/%s", name) < (int)size ? 0 : -1;
}

static sem_t *map(int fd) {
    void *memory = mmap(NULL, sizeof(sem_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? SEM_FAILED : memory;
}

sem_t *sem_open(const char *name, int flags, ...) {
    char path[300], temporary[64];
    if (path_of(name, path, sizeof path) < 0) {
        errno = ENAMETOOLONG;
        return SEM_FAILED;
    }
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && (flags & O_CREAT) && (flags & O_EXCL)) {
        close(fd);
        errno = EEXIST;
        return SEM_FAILED;
    }
    if (fd >= 0 || !(flags & O_CREAT))
        return fd < 0 ? SEM_FAILED : map(fd);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    unsigned value = va_arg(rest, unsigned);
    va_end(rest);
    sem_t semaphore;
    sem_init(&semaphore, 1, value);
    snprintf(temporary, sizeof temporary, "/dev/shm/tmp-%d", (int)getpid());
    fd = open(temporary, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode & 0666);
    if (fd < 0)
        return SEM_FAILED;
    int failed = write(fd, &semaphore, sizeof semaphore) != sizeof semaphore || link(temporary, path) < 0;
    unlink(temporary);
    if (failed) {
        close(fd);
        return SEM_FAILED;
    }
    return map(fd);
}

int sem_unlink(const char *name) {
    char path[300];
    if (path_of(name, path, sizeof path) < 0) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return unlink(path);
}

int sem_close(sem_t *semaphore) { return munmap(semaphore, sizeof *semaphore); }
