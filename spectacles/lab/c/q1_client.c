/* Client of question 1: the five pipes, and its own reading of spectacles.dat for the menu. */
#include "client.h"

static int view_out, view_in, show_out, seats_out, ack_in;

static int open_pipe(const char *name, int mode) {
    /* without O_NONBLOCK, writing to pipes left by a dead server would wait for the next one */
    int fd = open(name, mode | (mode == O_WRONLY ? O_NONBLOCK : 0));
    if (fd < 0)
        fail("pas de serveur (%s)", name);
    if (mode == O_WRONLY)
        fcntl(fd, F_SETFL, 0);
    return fd;
}

static void open_pipes(const Options *o) {
    (void)o;
    view_out = open_pipe("tub1_view", O_WRONLY);
    view_in = open_pipe("tub2_view", O_RDONLY);
    show_out = open_pipe("tub1_reservation", O_WRONLY);
    seats_out = open_pipe("tub2_reservation", O_WRONLY);
    ack_in = open_pipe("tub3_reservation", O_RDONLY);
}

static int consult(int show) {
    int places;
    if (!write_full(view_out, &show, sizeof show) ||
        read_full(view_in, &places, sizeof places) != sizeof places)
        fail("serveur perdu");
    return places;
}

static bool reserve(int show, int seats) {
    unsigned char ack; /* a byte first: only 0 and 1 may be read as a bool */
    if (!write_full(show_out, &show, sizeof show) || !write_full(seats_out, &seats, sizeof seats) ||
        read_full(ack_in, &ack, sizeof ack) != sizeof ack)
        fail("serveur perdu");
    return ack != 0;
}

static const Spectacle *list(void) {
    static Spectacle table[MAX_SPECTACLE];
    if (!load_table(DATA_FILE, table))
        fail("%s", DATA_FILE);
    for (int i = 0; i < MAX_SPECTACLE; i++)
        if (table[i].id != 0)
            table[i].places = consult(i);
    return table;
}

int main(int argc, char **argv) {
    static const Channel pipes = {open_pipes, list, consult, reserve, true};
    return run_client(argc, argv, &pipes);
}
