/* Question 1, sound: five named pipes, two children, shared segment and named semaphore. A FIFO says nothing about who
 * writes or reads: clients take turns, and what a dead one left is swept away by the next (q1_client.c). */
#include "guichet.h"
#include <poll.h>

#define HALF_PATIENCE 500 /* milliseconds that the second half of a reservation may take */

static const char *const names[] = {"tub1_view", "tub2_view", "tub1_reservation", "tub2_reservation",
                                    "tub3_reservation"};
static int fifo[5] = {-1, -1, -1, -1, -1};
static int created;

static void cleanup(void) {
    if (getpid() != shared.owner)
        return;
    for (int i = 0; i < created; i++)
        unlink(names[i]);
    destroy_shared();
}

/* Opened again by each child: a lock of its own, that the kernel gives back when it dies. */
static void reopen(int i, int flags) {
    int fd = open(names[i], O_RDWR | O_CLOEXEC | flags);
    if (fd < 0)
        fail("%s", names[i]);
    fifo[i] = fd;
}

static bool ready(int i, int ms) {
    struct pollfd p = {.fd = fifo[i], .events = POLLIN};
    return TEMP_FAILURE_RETRY(poll(&p, 1, ms)) > 0;
}

static void take_turn(int i) { TEMP_FAILURE_RETRY(flock(fifo[i], LOCK_EX)); }
static void give_turn(int i) { flock(fifo[i], LOCK_UN); }

/* Whoever holds the turn knows that nothing is in the server's hands. */
static void consultation(void) {
    reopen(0, O_NONBLOCK);
    for (;;) {
        int show;
        if (!ready(0, -1))
            continue;
        take_turn(0);
        if (read(fifo[0], &show, sizeof show) == sizeof show) {
            int places = consult(show);
            LOG("[CONSULTATION] spectacle %d, reste %d\n", show, places);
            write_full(fifo[1], &places, sizeof places);
        }
        give_turn(0);
    }
}

static void reservation(void) {
    reopen(2, O_NONBLOCK);
    reopen(3, O_NONBLOCK);
    for (;;) {
        int show, seats, left;
        if (!ready(2, -1))
            continue;
        bool whole = ready(3, HALF_PATIENCE);
        take_turn(2);
        /* one half alone is a dead client's */
        if (read(fifo[2], &show, sizeof show) == sizeof show && whole &&
            read(fifo[3], &seats, sizeof seats) == sizeof seats) {
            bool ack = reserve(show, seats, &left);
            log_reservation("client", ack, show, seats, left);
            write_full(fifo[4], &ack, sizeof ack);
        }
        give_turn(2);
    }
}

int main(int argc, char **argv) {
    Options o = server_options(argc, argv);
    watch_signals();
    be_the_only_one();
    atexit(cleanup);
    create_shared(&o);
    /* Opened before the forks, so that "UP" is true; read-write, so that they never reach end of file. */
    for (int i = 0; i < 5; i++) {
        if (mkfifo(names[i], 0600) < 0 && errno != EEXIST)
            fail("%s", names[i]);
        struct stat st;
        fifo[i] = open(names[i], O_RDWR | O_CLOEXEC);
        if (fifo[i] < 0 || fstat(fifo[i], &st) < 0)
            fail("%s", names[i]);
        if (!S_ISFIFO(st.st_mode))
            refuse("%s n'est pas un tube", names[i]); /* somebody's file: not ours to remove */
        created = i + 1;
    }
    spawn(consultation);
    spawn(reservation);
    LOG("[INFO] sémaphore %s, mémoire partagée 0x%08x\n", o.sem_name, (unsigned)o.shm_key);
    return supervise();
}
