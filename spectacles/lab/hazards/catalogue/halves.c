/* Question 1: a reservation is a show and a number of seats. */
#include "hazard.h"

static void server(void) {
    int file = seats_file(120), seats[SHOWS], pair[2];
    mkfifo("spectacle", 0600);
    mkfifo("nombre", 0600);
    int shows = must(open("spectacle", O_RDWR), "spectacle"), numbers = must(open("nombre", O_RDWR), "nombre");
    for (;;) {
#ifdef BROKEN
        read(shows, &pair[0], sizeof pair[0]);
        read(numbers, &pair[1], sizeof pair[1]);
#else
        read(shows, pair, sizeof pair);
        (void)numbers;
#endif
        pread(file, seats, sizeof seats, 0);
        seats[pair[0]] -= pair[1];
        pwrite(file, seats, sizeof seats, 0);
        say("spectacle %d : %d places vendues", pair[0], pair[1]);
    }
}

static void client(int show, int number) {
    int shows = must(open("spectacle", O_WRONLY), "spectacle"), numbers = must(open("nombre", O_WRONLY), "nombre");
    int pair[2] = {show, number};
#ifdef BROKEN
    write(shows, &pair[0], sizeof pair[0]);
    window();
    write(numbers, &pair[1], sizeof pair[1]);
#else
    write(shows, pair, sizeof pair); /* at most PIPE_BUF bytes in one write stay together */
    (void)numbers;
#endif
}

int main(int argc, char **argv) {
    if (argc > 3)
        client(atoi(argv[2]), atoi(argv[3]));
    else
        server();
    return 0;
}
