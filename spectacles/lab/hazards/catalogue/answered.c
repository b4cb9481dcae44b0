/* All questions: the server says yes, and saves. */
#include "hazard.h"

static void save(int file, const int *seats) {
    must((int)pwrite(file, seats, SHOWS * sizeof *seats, 0), "pwrite");
    must(fdatasync(file), "fdatasync");
}

static void server(void) {
    int file = seats_file(120), seats[SHOWS] = {120, 80}, queue = queue_made(KEY);
    Message request;
    while (msgrcv(queue, &request, BODY, 1, 0) >= 0) {
        seats[request.show] -= request.places;
#ifdef BROKEN
        send_message(queue, request.pid, 0, request.show, 1);
        window();
        save(file, seats);
#else
        save(file, seats);
        send_message(queue, request.pid, 0, request.show, 1);
#endif
    }
}

static void reader(void) {
    int seats[SHOWS];
    pread(seats_file(120), seats, sizeof seats, 0);
    say("%d places dans le fichier", seats[0]);
}

int main(int argc, char **argv) {
    if (argc > 2)
        say(asked(0, atoi(argv[2])).places ? "réservé" : "refusé");
    else if (argc > 1 && !strcmp(argv[1], "lecteur"))
        reader();
    else
        server();
    return 0;
}
