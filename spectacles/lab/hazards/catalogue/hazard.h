/* What the hazards share, so that each file shows nothing but its own. Compiled with -DBROKEN, and without. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHOWS 2
#ifndef KEY
#define KEY 0x51 /* of every queue and semaphore set */
#endif
#ifndef PREFIX
#define PREFIX "/" /* of the names of semaphores */
#endif
#ifndef PORT
#define PORT 5151
#endif

typedef struct { /* a request, and its answer with `places` filled in */
    long type;
    int pid, show, places;
    char word[8]; /* "demande", "reponse": for whoever looks into the queue */
} Message;
#define BODY (sizeof(Message) - sizeof(long))

/* Print one line at once. */
static inline void say(const char *format, ...) {
    char line[256];
    va_list rest;
    va_start(rest, format);
    int size = vsnprintf(line, sizeof line - 1, format, rest);
    va_end(rest);
    line[size++] = '\n';
    for (int sent = 0; sent < size;) {
        ssize_t n = write(1, line + sent, (size_t)(size - sent));
        if (n < 0 && errno != EINTR)
            exit(9);
        sent += n > 0 ? (int)n : 0;
    }
}

/* Here it can go wrong. With -DSLOW=n whoever comes first stays here n seconds, and the others pass: for two hands. */
static inline void window(void) {
#ifdef SLOW
    int first = open("fenetre", O_CREAT | O_EXCL, 0600);
    if (first < 0)
        return;
    close(first);
    say("(PID %d : la fenêtre est ouverte, %d s)", getpid(), SLOW);
    for (unsigned left = SLOW; left;)
        left = sleep(left);
    unlink("fenetre");
#endif
}

/* What must not fail here: says why, and ends. */
static inline int must(int result, const char *what) {
    if (result < 0) {
        say("%s : %s", what, strerror(errno));
        exit(9);
    }
    return result;
}

/* The file of the seats, made with `first` and 80 if it is not there. */
static inline int seats_file(int first) {
    int file = open("places", O_RDWR);
    if (file < 0) {
        int seats[SHOWS] = {first, 80};
        file = must(open("neuf", O_RDWR | O_CREAT, 0600), "neuf"); /* so that a script can tell its writes from a sale */
        must((int)write(file, seats, sizeof seats), "neuf");
        must(rename("neuf", "places"), "rename");
    }
    return file;
}

/* The same, as memory that whoever calls this shares. */
static inline volatile int *seats_memory(int first) {
    void *memory = mmap(NULL, SHOWS * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, seats_file(first), 0);
    must(memory == MAP_FAILED ? -1 : 0, "mmap");
    return memory;
}

static inline sem_t *semaphore_named(const char *name, int flags) {
    sem_t *lock = sem_open(name, flags, 0600, 1);
    must(lock == SEM_FAILED ? -1 : 0, name);
    return lock;
}

static inline int queue_made(int key) {
    return must(msgget(key, IPC_CREAT | 0600), "msgget");
}

static inline void send_message(int queue, long type, int pid, int show, int places) {
    Message message = {type, pid, show, places, ""};
    strcpy(message.word, type == 1 ? "demande" : "reponse");
    must(msgsnd(queue, &message, BODY, 0), "msgsnd");
}

/* Ask by type 1, and wait for the answer: its type is our PID. */
static inline Message asked(int show, int places) {
    Message answer;
    int queue = must(msgget(KEY, 0), "pas de serveur");
    send_message(queue, 1, getpid(), show, places);
    window();
    must((int)msgrcv(queue, &answer, BODY, getpid(), 0), "msgrcv");
    return answer;
}
