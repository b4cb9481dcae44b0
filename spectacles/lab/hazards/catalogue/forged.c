/* Questions 2 to 4: the PID in a request is taken on trust. */
#include "hazard.h"
#define ENOUGH 1000

static void server(void) {
    int queue = queue_made(KEY), requests = 0;
    Message request;
    while (msgrcv(queue, &request, BODY, 1, 0) >= 0) {
        if (++requests == ENOUGH) {
            say("%d demandes reçues", requests);
            exit(1);
        }
#ifndef BROKEN
        if (request.pid <= 2) { /* 1 and 2 are the types of requests, 0 and less are no types */
            say("demande refusée : PID %d", request.pid);
            continue;
        }
#endif
        send_message(queue, request.pid, request.pid, request.show, 120);
    }
}

int main(int argc, char **argv) {
    if (argc < 2 || !strcmp(argv[1], "server"))
        server();
    else if (!strcmp(argv[1], "A")) {
        send_message(must(msgget(KEY, 0), "msgget"), 1, 1, 0, 0);
        say("une demande, au nom du PID 1");
    } else
        say("%d places", asked(0, 0).places);
    return 0;
}
