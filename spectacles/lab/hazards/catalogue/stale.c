/* Question 1: how many seats are left of a show that does not exist? */
#include "hazard.h"

static void server(void) {
    volatile int *places = seats_memory(120);
    int queue = queue_made(KEY);
    Message request;
    int left = 0;
    while (msgrcv(queue, &request, BODY, 1, 0) >= 0) {
#ifndef BROKEN
        left = -1; /* nothing of the request before */
#endif
        if (request.show >= 0 && request.show < SHOWS)
            left = places[request.show];
        send_message(queue, request.pid, 0, request.show, left);
    }
}

static void client(int show) {
    int left = asked(show, 0).places;
    if (left < 0)
        say("spectacle %d : inconnu", show);
    else
        say("spectacle %d : %d places", show, left);
}

int main(int argc, char **argv) {
    if (argc == 1 || !strcmp(argv[1], "server"))
        server();
    for (int i = 2; i < argc; i++)
        client(atoi(argv[i]));
    return 0;
}
