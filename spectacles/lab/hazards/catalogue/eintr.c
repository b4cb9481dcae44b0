/* A signal comes while the server waits for a request. */
#include "hazard.h"

static void on_signal(int number) {
    (void)number;
}

static void server(void) {
    struct sigaction action = {.sa_handler = on_signal};
    int queue = queue_made(KEY);
    Message request;
    sigaction(SIGUSR1, &action, NULL);
    for (;;) {
        if (msgrcv(queue, &request, BODY, 1, 0) < 0) {
#ifndef BROKEN
            if (errno == EINTR)
                continue; /* nobody asked for anything: wait again */
#endif
            must(-1, "msgrcv");
        }
        send_message(queue, request.pid, 0, request.show, 120);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "server"))
        say("%d places", asked(0, 0).places);
    else
        server();
    return 0;
}
