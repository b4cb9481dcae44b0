/* A car park: one process, one queue of demands, answers into each car's own queue. Sound; nothing like the box office. */
#include "parking.h"
#include <fcntl.h>
#include <sys/file.h>

#define CARS 200

static short room[LEVELS] = {12, 40, 2};
static int demands = -1, book = -1;
static volatile sig_atomic_t closing;
static struct { int pid, queue; } cars[CARS];

static void close_up(int sig) {
    (void)sig;
    closing = 1;
    msgctl(demands, IPC_RMID, NULL); /* whoever waits in msgrcv returns */
}

/* Whose queue this is stands in a demand, which anybody can write: it is removed only if the car that has gone is the one
 * that read from it last. */
static void tow(int pid, int queue) {
    struct msqid_ds about;
    if (msgctl(queue, IPC_STAT, &about) == 0 && about.msg_lrpid == pid)
        msgctl(queue, IPC_RMID, NULL);
}

/* A car that has gone without a word has left its queue behind. */
static void remember(int pid, int queue) {
    static int next;
    for (int i = 0; i < CARS; i++) {
        if (cars[i].pid && kill(cars[i].pid, 0) < 0 && errno == ESRCH) {
            tow(cars[i].pid, cars[i].queue);
            cars[i].pid = 0;
        }
        if (cars[i].pid == pid && cars[i].queue == queue)
            return;
    }
    for (int tries = 0; tries < CARS; tries++, next = (next + 1) % CARS)
        if (!cars[next].pid) {
            cars[next].pid = pid;
            cars[next].queue = queue;
            return;
        }
}

static int write_down(int level, short left) {
    off_t at = (off_t)(level * (int)sizeof left);
    ssize_t n;
    do
        n = pwrite(book, &left, sizeof left, at);
    while (n < 0 && errno == EINTR);
    return n == sizeof left && fdatasync(book) == 0;
}

int main(void) {
    struct sigaction sa = {.sa_handler = close_up};
    int here = open(".", O_RDONLY | O_CLOEXEC);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (here < 0 || flock(here, LOCK_EX | LOCK_NB) < 0) {
        fprintf(stderr, "Le parking a déjà une barrière.\n");
        return 1;
    }
    book = open("niveaux.bin", O_RDWR | O_CLOEXEC);
    if (book < 0) {
        int draft = open("niveaux.tmp", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (draft < 0 || write(draft, room, sizeof room) != sizeof room || rename("niveaux.tmp", "niveaux.bin") < 0) {
            perror("niveaux.bin");
            return 1;
        }
        book = draft;
    } else if (read(book, room, sizeof room) != sizeof room) {
        fprintf(stderr, "niveaux.bin est abîmé.\n");
        return 1;
    }
    msgctl(msgget(barrier(), 0), IPC_RMID, NULL); /* a dead barrier's */
    demands = msgget(barrier(), IPC_CREAT | IPC_EXCL | 0600);
    if (demands < 0) {
        perror("msgget");
        return 1;
    }
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    puts("Barrière en service.");
    while (!closing) {
        struct demand d;
        ssize_t n = msgrcv(demands, &d, LENGTH(demand), 0, MSG_NOERROR);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        if (n != (ssize_t)LENGTH(demand) || (d.type != ASK && d.type != PARK) || d.pid <= 1)
            continue;
        struct ticket t = {.type = ANSWER, .granted = 0, .free = -1};
        if (d.level >= 0 && d.level < LEVELS) {
            if (d.type == PARK && d.cars > 0 && d.cars <= room[d.level]) {
                short left = (short)(room[d.level] - d.cars);
                if (write_down(d.level, left)) {
                    room[d.level] = left;
                    t.granted = 1;
                } else {
                    write_down(d.level, room[d.level]);
                }
            }
            t.free = room[d.level];
        }
        remember(d.pid, d.queue);
        while (msgsnd(d.queue, &t, LENGTH(ticket), IPC_NOWAIT) < 0 && errno == EINTR)
            ;
    }
    for (int i = 0; i < CARS; i++)
        if (cars[i].pid && kill(cars[i].pid, 0) < 0 && errno == ESRCH)
            tow(cars[i].pid, cars[i].queue);
    msgctl(demands, IPC_RMID, NULL);
    puts("Parking fermé.");
    return closing ? 0 : 1;
}
