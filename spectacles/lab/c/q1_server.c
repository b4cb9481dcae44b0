/* Question 1: five named pipes, two children, shared segment and named semaphore. One client only. */
#include "serveur.h"

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

static void consultation(void) {
    int show;
    while (read_full(fifo[0], &show, sizeof show) == sizeof show) {
        int places = consult(show);
        LOG("[CONSULTATION] spectacle %d, reste %d\n", show, places);
        if (!write_full(fifo[1], &places, sizeof places))
            return;
    }
}

static void reservation(void) {
    int show, seats, left;
    while (read_full(fifo[2], &show, sizeof show) == sizeof show &&
           read_full(fifo[3], &seats, sizeof seats) == sizeof seats) {
        bool ack = reserve(show, seats, &left);
        log_reservation("client", ack, show, seats, left);
        if (!write_full(fifo[4], &ack, sizeof ack))
            return;
    }
}

int main(int argc, char **argv) {
    Options o = server_options(argc, argv);
    block_signals();
    atexit(cleanup);
    create_shared(&o);
    /* Opened before the forks, so that "UP" is true; read-write, so that they never reach end of file. */
    for (int i = 0; i < 5; i++) {
        if (mkfifo(names[i], 0600) < 0 && errno != EEXIST)
            fail("%s", names[i]);
        created = i + 1;
        struct stat st;
        fifo[i] = open(names[i], O_RDWR | O_CLOEXEC);
        if (fifo[i] < 0 || fstat(fifo[i], &st) < 0)
            fail("%s", names[i]);
        if (!S_ISFIFO(st.st_mode)) {
            created = i; /* somebody's file: not ours to remove */
            refuse("%s n'est pas un tube", names[i]);
        }
    }
    spawn(consultation);
    spawn(reservation);
    for (int i = 0; i < 5; i++)
        close(fifo[i]);
    puts("[INFO] Serveur UP");
    LOG("[INFO] sémaphore %s, mémoire partagée 0x%08x\n", o.sem_name, (unsigned)o.shm_key);
    return supervise();
}
