/* Small programs for the gate, each with something that can be seen, delayed or broken, by its first argument. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int places, sold;
} Table;
typedef struct {
    long type;
    char text[8];
} Message;

static sem_t *lock;
static int queue;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int is_set;

/* Two clerks, one seat; with or without a lock. Exit code: whether it was sold twice. */
static int booth(int with_lock) {
    int id = shmget(IPC_PRIVATE, sizeof(Table), 0600);
    Table *table = shmat(id, 0, 0);
    shmctl(id, IPC_RMID, 0);
    table->places = 1;
    table->sold = 0;
    lock = sem_open("/guichet", O_CREAT, 0600, 1);
    sem_unlink("/guichet");
    for (int i = 0; i < 2; i++)
        if (fork() == 0) {
            if (with_lock)
                sem_wait(lock);
            if (table->places >= 1) {
                table->places -= 1;
                table->sold += 1;
            }
            if (with_lock)
                sem_post(lock);
            _exit(0);
        }
    wait(0);
    wait(0);
    return table->places < 0 || table->sold > 1;
}

static void *sender(void *text) {
    Message message = {1, ""};
    strcpy(message.text, text);
    msgsnd(queue, &message, sizeof message.text, 0);
    return NULL;
}

/* Two threads send one message each; prints them in the order of the queue. */
static int order(void) {
    pthread_t threads[2];
    Message message;
    queue = msgget(IPC_PRIVATE, 0600);
    pthread_create(&threads[0], NULL, sender, "A");
    pthread_create(&threads[1], NULL, sender, "B");
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    for (int i = 0; i < 2; i++) {
        msgrcv(queue, &message, sizeof message.text, 0, 0);
        printf("%s", message.text);
    }
    printf("\n");
    return 0;
}

/* Saves a table as the original does: O_TRUNC, then write; twice. Says what it could not. */
static int save(void) {
    char table[720];
    for (int round = 0; round < 2; round++) {
        int file = open("spectacles.dat", O_WRONLY | O_CREAT | O_TRUNC, 0600);
        memset(table, 'x', sizeof table);
        ssize_t got = write(file, table, sizeof table);
        if (got != sizeof table)
            printf("%d: %s\n", round, got < 0 ? strerror(errno) : "short");
        close(file);
    }
    printf("done\n");
    return 0;
}

static void *leave_at_once(void *unused) {
    kill(getpid(), 0);
    return unused;
}

/* A thread that has forty of its own, one after another. */
static void *receiver(void *unused) {
    pthread_t thread;
    for (int i = 0; i < 40; i++) {
        pthread_create(&thread, NULL, leave_at_once, NULL);
        pthread_join(thread, NULL);
    }
    is_set = 1;
    return unused;
}

/* The first thread makes calls all the while. */
static int brood(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, receiver, NULL);
    while (!*(volatile int *)&is_set)
        usleep(100);
    pthread_join(thread, NULL);
    return 0;
}

static void *waiter(void *unused) {
    (void)unused;
    pthread_mutex_lock(&mutex);
    while (!is_set)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static int conditions(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, waiter, NULL);
    usleep(50000);
    pthread_mutex_lock(&mutex);
    is_set = 1;
    pthread_cond_signal(&condition);
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    return 0;
}

static void on_signal(int number) {
    (void)number;
    write(1, "signal\n", 7);
}

static void on_nothing(int number) {
    (void)number;
}

/* A signal while it waits for a message, or is held before it asks for one. */
static int interrupted(void) {
    Message message;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    queue = msgget(IPC_PRIVATE, 0600);
    ssize_t got = msgrcv(queue, &message, sizeof message.text, 0, 0);
    printf("%s\n", got < 0 && errno == EINTR ? "EINTR" : "got it");
    return 0;
}

/* Calls that never fail with EINTR, while signals come all the time; exit code: whether one did. */
static int storm(void) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    int failed = 0;
    pid_t self = getpid();
    action.sa_handler = on_nothing;
    sigaction(SIGUSR1, &action, NULL);
    if (fork() == 0)
        for (;;)
            if (kill(self, SIGUSR1) < 0 || getppid() != self)
                _exit(0);
    for (int i = 0; i < 200; i++) {
        int id = msgget(IPC_PRIVATE, 0600);
        struct msqid_ds status;
        failed |= id < 0 || msgctl(id, IPC_STAT, &status) < 0 || msgctl(id, IPC_RMID, NULL) < 0;
        int file = open("fichier", O_WRONLY | O_CREAT | O_TRUNC, 0600);
        failed |= file < 0 || write(file, "x", 1) != 1 || ftruncate(file, 0) < 0 || fsync(file) < 0;
        close(file);
        failed |= unlink("fichier") < 0;
    }
    return failed;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "booth"))
        return booth(0);
    if (!strcmp(what, "locked"))
        return booth(1);
    if (!strcmp(what, "order"))
        return order();
    if (!strcmp(what, "save"))
        return save();
    if (!strcmp(what, "conditions"))
        return conditions();
    if (!strcmp(what, "brood"))
        return brood();
    if (!strcmp(what, "interrupted"))
        return interrupted();
    if (!strcmp(what, "storm"))
        return storm();
    if (!strcmp(what, "spins")) {
        printf("spins\n");
        fflush(stdout);
        for (;;)
            ;
    }
    if (!strcmp(what, "deadlock")) { /* two locks in opposite orders */
        sem_t *a = sem_open("/a", O_CREAT, 0600, 1), *b = sem_open("/b", O_CREAT, 0600, 1);
        sem_unlink("/a");
        sem_unlink("/b");
        for (int i = 0; i < 2; i++)
            if (fork() == 0) {
                sem_wait(i ? b : a);
                sem_wait(i ? a : b);
                sem_post(i ? a : b);
                sem_post(i ? b : a);
                _exit(0);
            }
        wait(0);
        wait(0);
        return 0;
    }
    if (!strcmp(what, "family")) { /* grandchildren, an exec, a change of user, an orphan */
        if (fork() == 0) {
            if (fork() == 0) {
                usleep(20000);
                execl(argv[0], argv[0], "leaf", NULL);
            }
            if (setuid(getuid()) < 0)
                _exit(3);
            _exit(0); /* its child is an orphan now */
        }
        wait(0);
        usleep(60000);
        return 0;
    }
    if (!strcmp(what, "leaf"))
        return 0;
    if (!strcmp(what, "timed")) { /* sleeps that need not pass */
        sleep(1000);
        printf("slept\n");
        return 0;
    }
#ifdef __x86_64__
    if (!strcmp(what, "old")) { /* a call by the numbers of 32-bit programs: 24 is getuid there, sched_yield here */
        long got;
        __asm__ volatile("int $0x80" : "=a"(got) : "a"(24) : "memory");
        printf("%ld\n", got);
        return 0;
    }
#endif
    if (!strcmp(what, "file")) { /* the kernel reads into and writes from shared memory */
        int id = shmget(IPC_PRIVATE, 4096, 0600), fds[2];
        char *memory = shmat(id, 0, 0);
        shmctl(id, IPC_RMID, 0);
        strcpy(memory, "bonjour");
        if (pipe(fds) < 0 || write(fds[1], memory, 8) != 8 || read(fds[0], memory + 100, 8) != 8)
            return 1;
        FILE *file = fopen("copie", "w+");
        if (fwrite(memory, 1, 4096, file) != 4096 || fflush(file) || fseek(file, 0, SEEK_SET) ||
            fread(memory, 1, 4096, file) != 4096)
            return 1;
        return strcmp(memory + 100, "bonjour");
    }
    return 2;
}
