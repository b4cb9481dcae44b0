/* Question 4: one receiver for requests of any type. */
#include "hazard.h"

#ifdef BROKEN
#define ANY 0
#else
#define ANY (-2) /* the lowest type up to 2: consultations and reservations, never an answer */
#endif

static void server(void) {
    int queue = queue_made(KEY);
    Message request;
    while (msgrcv(queue, &request, BODY, ANY, 0) >= 0)
        if (request.type <= 2)
            send_message(queue, request.pid, 0, request.show, 120);
        else
            say("demande de type inconnu");
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "server"))
        say("%d places", asked(0, 0).places);
    else
        server();
    return 0;
}
