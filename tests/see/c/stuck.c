/* Programs that stand still in a known way, for looks to find: stuck MODE [ARGUMENT]. Says "ready" once it is set up; what
 * follows is a matter of microseconds. None ends by itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t verrou_a = PTHREAD_MUTEX_INITIALIZER, verrou_b = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t signal_recu = PTHREAD_COND_INITIALIZER;
static sem_t jetons;
static pthread_barrier_t both;

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

static void *a_then_b(void *unused) {
    pthread_mutex_lock(&verrou_a);
    pthread_barrier_wait(&both);
    pthread_mutex_lock(&verrou_b);
    return unused;
}

static void *b_then_a(void *unused) {
    pthread_mutex_lock(&verrou_b);
    pthread_barrier_wait(&both);
    pthread_mutex_lock(&verrou_a);
    return unused;
}

static void *take_a(void *unused) {
    pthread_mutex_lock(&verrou_a);
    return unused;
}

static void *wait_semaphore(void *unused) {
    sem_wait(&jetons);
    return unused;
}

static void *wait_condition(void *unused) {
    pthread_mutex_lock(&verrou_b);
    pthread_cond_wait(&signal_recu, &verrou_b);
    return unused;
}

/* Two processes and two System V semaphores, taken in opposite orders. */
static void two_semaphores(key_t key) {
    int id = semget(key, 2, IPC_CREAT | 0600), fds[2];
    char byte = 0;
    semctl(id, 0, SETVAL, 1);
    semctl(id, 1, SETVAL, 1);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        exit(1);
    int second = fork() == 0;
    struct sembuf mine = {second, -1, 0}, other = {!second, -1, 0};
    semop(id, &mine, 1);
    /* each says that it has its own, and waits for the other to say so */
    if (write(fds[second], &byte, 1) != 1 || read(fds[second], &byte, 1) != 1)
        exit(1);
    if (!second)
        ready();
    semop(id, &other, 1);
}

/* A thread that consumes a signal and waits for the next. */
static void *signal_semaphore(void *key) {
    int id = semget(*(key_t *)key, 1, IPC_CREAT | 0600);
    struct sembuf take = {0, -1, 0};
    semctl(id, 0, SETVAL, 1);
    semop(id, &take, 1);
    ready();
    semop(id, &take, 1);
    return NULL;
}

static void dead_semaphore(key_t key) {
    int id = semget(key, 1, IPC_CREAT | 0600);
    struct sembuf take = {0, -1, 0};
    semctl(id, 0, SETVAL, 1);
    pid_t child = fork();
    if (child == 0) {
        semop(id, &take, 1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    ready();
    semop(id, &take, 1);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "", *argument = argc > 2 ? argv[2] : "";
    pthread_t threads[2];
    pthread_barrier_init(&both, NULL, 2);
    if (!strcmp(mode, "deadlock")) {
        pthread_create(&threads[0], NULL, a_then_b, NULL);
        pthread_create(&threads[1], NULL, b_then_a, NULL);
        ready();
        pthread_join(threads[0], NULL);
    } else if (!strcmp(mode, "self")) {
        pthread_mutex_lock(&verrou_a);
        ready();
        pthread_mutex_lock(&verrou_a);
    } else if (!strcmp(mode, "dead-holder")) {
        pthread_create(&threads[0], NULL, take_a, NULL);
        pthread_join(threads[0], NULL);
        ready();
        pthread_mutex_lock(&verrou_a);
    } else if (!strcmp(mode, "shared-mutex") || !strcmp(mode, "robust")) { /* held by a live child */
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        if (!strcmp(mode, "robust"))
            pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_t *mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pthread_mutex_init(mutex, &attributes);
        int fds[2];
        char byte = 0;
        if (pipe(fds) < 0)
            return 1;
        if (fork() == 0) {
            pthread_mutex_lock(mutex);
            if (write(fds[1], &byte, 1) != 1)
                return 1;
            pause();
        }
        if (read(fds[0], &byte, 1) != 1)
            return 1;
        ready();
        pthread_mutex_lock(mutex);
    } else if (!strcmp(mode, "waits")) {
        sem_init(&jetons, 0, 0);
        pthread_create(&threads[0], NULL, wait_semaphore, NULL);
        pthread_create(&threads[1], NULL, wait_condition, NULL);
        ready();
        pthread_join(threads[0], NULL);
    } else if (!strcmp(mode, "two-semaphores")) {
        two_semaphores((key_t)strtol(argument, NULL, 0));
    } else if (!strcmp(mode, "dead-semaphore")) {
        dead_semaphore((key_t)strtol(argument, NULL, 0));
    } else if (!strcmp(mode, "signal-semaphore")) {
        key_t key = (key_t)strtol(argument, NULL, 0);
        pthread_create(&threads[0], NULL, signal_semaphore, &key);
        pthread_join(threads[0], NULL);
    } else if (!strcmp(mode, "named-semaphore")) { /* the second sem_wait of one that forgot its sem_post */
        sem_t *semaphore = sem_open(argument, O_CREAT, 0600, 1);
        sem_wait(semaphore);
        ready();
        sem_wait(semaphore);
    } else if (!strcmp(mode, "open-fifo")) {
        ready();
        close(open(argument, O_WRONLY));
    } else if (!strcmp(mode, "flock")) {
        int fd = open(argument, O_RDWR | O_CREAT, 0600);
        ready();
        flock(fd, LOCK_EX);
    } else if (!strcmp(mode, "mq")) {
        struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 32};
        mqd_t queue = mq_open(argument, O_RDWR | O_CREAT, 0600, &attributes);
        mq_unlink(argument);
        if (queue < 0 || mq_send(queue, "bonjour", 7, 0) < 0 || mq_send(queue, "!", 1, 0) < 0)
            return 1;
        ready();
        pause();
    } else if (!strcmp(mode, "sleep")) {
        ready();
        nanosleep(&(struct timespec){1000, 500000000}, NULL);
    } else if (!strcmp(mode, "poll")) {
        struct pollfd fd = {0, POLLIN, 0};
        ready();
        poll(&fd, 1, 60000);
    } else if (!strcmp(mode, "select")) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(0, &set);
        ready();
        select(1, &set, NULL, NULL, NULL);
    } else if (!strcmp(mode, "msgrcv")) { /* of its own PID, as a client does */
        struct { long type; char body[64]; } message;
        int id = msgget((key_t)strtol(argument, NULL, 0), 0);
        ready();
        msgrcv(id, &message, sizeof message.body, getpid(), 0);
    } else if (!strcmp(mode, "msgsnd")) { /* into a queue with no room left */
        struct { long type; char body[8192]; } message = {7, ""};
        int id = msgget((key_t)strtol(argument, NULL, 0), 0);
        ready();
        while (msgsnd(id, &message, sizeof message.body, 0) == 0)
            continue;
    } else if (!strcmp(mode, "scanf")) {
        int number;
        ready();
        return scanf("%d", &number);
    } else {
        return 2;
    }
    pause();
    return 0;
}
