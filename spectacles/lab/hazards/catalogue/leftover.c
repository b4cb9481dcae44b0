/* Questions 1 to 4: Ctrl-C. */
#include "hazard.h"

static volatile sig_atomic_t stopping;

static void on_signal(int number) {
    (void)number;
    stopping = 1;
}

static void server(void) {
    Message request;
#ifndef BROKEN
    struct sigaction action = {.sa_handler = on_signal}; /* without SA_RESTART: msgrcv() shall end */
    sigaction(SIGINT, &action, NULL);
#endif
    int queue = queue_made(KEY);
    while (!stopping && msgrcv(queue, &request, BODY, 1, 0) >= 0)
        send_message(queue, request.pid, 0, request.show, 120);
    must(msgctl(queue, IPC_RMID, NULL), "msgctl"); /* in both: but the first never comes here */
    say("file retirée");
    (void)on_signal;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "ipcs"))
        say(msgget(KEY, 0) < 0 ? "rien" : "une file est restée");
    else
        server();
    return 0;
}
