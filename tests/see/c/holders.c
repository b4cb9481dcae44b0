/* Locks that die with their holder, or do not, by the first argument: a child takes one and ends; the parent wants it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t *mutex;
static int go[2];

static void robust(void) {
    pthread_mutexattr_t how;
    mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_init(&how);
    pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &how);
    if (fork() == 0) {
        pthread_mutex_lock(mutex);
        _exit(0);
    }
    wait(NULL);
    if (pthread_mutex_lock(mutex) == EOWNERDEAD)
        pthread_mutex_consistent(mutex);
    pthread_mutex_unlock(mutex);
}

static void lost(void) {
    struct timespec limit;
    sem_t *lock = sem_open("/verrou", O_CREAT, 0600, 1);
    if (fork() == 0) {
        sem_wait(lock);
        _exit(0);
    }
    wait(NULL);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_nsec = (limit.tv_nsec + 50000000) % 1000000000;
    limit.tv_sec += limit.tv_nsec < 50000000;
    sem_timedwait(lock, &limit);
    sem_unlink("/verrou");
}

static void undone(void) {
    struct sembuf down = {0, -1, SEM_UNDO}, up = {0, 1, SEM_UNDO};
    int set = semget(IPC_PRIVATE, 1, 0600);
    semctl(set, 0, SETVAL, 1);
    if (fork() == 0) {
        semop(set, &down, 1);
        _exit(0);
    }
    wait(NULL);
    semop(set, &down, 1);
    semop(set, &up, 1);
    semctl(set, 0, IPC_RMID);
}

/* The parent has it; the child waits for it; the parent gives it back once the child is asleep. */
static void handed(void) {
    char byte;
    int file = open("fichier", O_RDWR | O_CREAT, 0600);
    flock(file, LOCK_EX);
    if (pipe(go) < 0)
        return;
    if (fork() == 0) {
        int again = open("fichier", O_RDWR);
        write(go[1], "x", 1);
        flock(again, LOCK_EX);
        flock(again, LOCK_UN);
        _exit(0);
    }
    read(go[0], &byte, 1);
    usleep(50000);
    flock(file, LOCK_UN);
    wait(NULL);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "robust"))
        robust();
    if (!strcmp(what, "lost"))
        lost();
    if (!strcmp(what, "undone"))
        undone();
    if (!strcmp(what, "handed"))
        handed();
    return 0;
}
