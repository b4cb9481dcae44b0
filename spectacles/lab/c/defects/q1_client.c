/* Client of question 1, sound: five FIFOs, one client at a time, whole exchanges. The titles come from the file. */
#include "menu.h"
#include <sys/file.h>

enum { VIEW, SEATS_LEFT, SHOW, SEATS, ACK };
static const char *const names[] = {"tub1_view", "tub2_view", "tub1_reservation", "tub2_reservation",
                                    "tub3_reservation"};
static int fifo[5];

static void open_pipes(void) {
    static const int modes[] = {O_WRONLY | O_NONBLOCK, O_RDONLY, O_WRONLY | O_NONBLOCK, O_WRONLY | O_NONBLOCK, O_RDONLY};
    for (int i = 0; i < 5; i++) {
#if DEFECT == 4 /* its own writing end of the answers: nobody's death ends them any more */
        fifo[i] = open(names[i], modes[i] == O_RDONLY ? O_RDWR : modes[i]);
#else
        fifo[i] = open(names[i], modes[i]);
#endif
        if (fifo[i] < 0)
            fail("pas de serveur (%s)", names[i]);
        fcntl(fifo[i], F_SETFL, 0);
    }
}

static void drain(int i) {
    char waste[4096];
    int fd = open(names[i], O_RDWR | O_NONBLOCK);
    while (fd >= 0 && read(fd, waste, sizeof waste) > 0)
        ;
    close(fd);
}

static void take(int i) { TEMP_FAILURE_RETRY(flock(fifo[i], LOCK_EX)); }
static void give(int i) { flock(fifo[i], LOCK_UN); }

/* One client at a time; then the server's turn, for a moment: it has answered whatever it had taken, and what is left
 * in the pipes is of a client that died. */
static void begin(int request, int answer) {
    take(answer);
    take(request);
#if DEFECT == 1
    if (request == VIEW) /* whose turn it is says nothing: see consult() */
        return give(request);
#endif
    drain(request);
    if (request == SHOW)
        drain(SEATS);
    drain(answer);
    give(request);
}

static int consult(int show) {
    int places;
    begin(VIEW, SEATS_LEFT);
    bool sent = write_full(fifo[VIEW], &show, sizeof show);
#if DEFECT == 1 /* whoever reads first gets the answer */
    give(SEATS_LEFT);
#endif
    if (!sent || read_full(fifo[SEATS_LEFT], &places, sizeof places) != sizeof places)
        fail("serveur perdu");
    give(SEATS_LEFT);
    return places;
}

static bool reserve(int show, int seats) {
    unsigned char ack; /* a byte first: only 0 and 1 may be read as a bool */
#if DEFECT != 2 /* the turn is taken only to read: another client may come in between the two halves */
    begin(SHOW, ACK);
#endif
    bool sent = write_full(fifo[SHOW], &show, sizeof show) && write_full(fifo[SEATS], &seats, sizeof seats);
#if DEFECT == 2
    take(ACK);
#endif
    if (!sent || read_full(fifo[ACK], &ack, sizeof ack) != sizeof ack)
        fail("serveur perdu");
    give(ACK);
    return ack != 0;
}

static const Spectacle *list(void) {
    static Spectacle table[MAX_SPECTACLE];
    if (!load_table(DATA_FILE, table))
        fail("%s", DATA_FILE);
    return table;
}

int main(int argc, char **argv) {
    static const Channel pipes = {list, consult, reserve};
    parse_options(argc, argv);
    open_pipes();
    return run_menu(&pipes);
}
