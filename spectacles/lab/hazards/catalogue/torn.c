/* All questions: the table is saved while the machine may fail. */
#include "hazard.h"

static void save(const int *seats) {
    size_t size = SHOWS * sizeof *seats;
#ifdef BROKEN
    int file = must(open("spectacles.dat", O_WRONLY | O_CREAT | O_TRUNC, 0600), "spectacles.dat");
    window();
    write(file, seats, size);
    close(file);
#else
    int file = must(open("spectacles.dat.new", O_WRONLY | O_CREAT | O_TRUNC, 0600), "spectacles.dat.new");
    must((int)write(file, seats, size), "write");
    must(fsync(file), "fsync");
    close(file);
    must(rename("spectacles.dat.new", "spectacles.dat"), "rename");
#endif
}

static void server(void) {
    int seats[SHOWS] = {120, 80};
    save(seats);
    seats[0] -= 1;
    save(seats);
    say("119 places");
}

static void reader(void) {
    int seats[SHOWS];
    ssize_t size = read(must(open("spectacles.dat", O_RDONLY), "spectacles.dat"), seats, sizeof seats);
    if (size == sizeof seats)
        say("%d places", seats[0]);
    else
        say("fichier de %zd octets", size);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "server"))
        reader();
    else
        server();
    return 0;
}
