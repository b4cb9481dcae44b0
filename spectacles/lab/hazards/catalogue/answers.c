/* Question 1: clients ask in one FIFO, and are answered in another. */
#include "hazard.h"

typedef struct {
    char back[16]; /* the FIFO of the answer */
    int show;
} Request;

static void server(void) {
    volatile int *places = seats_memory(120);
    Request request;
    mkfifo("demandes", 0600);
    mkfifo("reponses", 0600);
    int requests = must(open("demandes", O_RDWR), "demandes");
    while (read(requests, &request, sizeof request) == sizeof request) {
        int back = must(open(request.back, O_RDWR), request.back), left = places[request.show];
        write(back, &left, sizeof left);
        close(back);
    }
}

static void client(const char *name, int show) {
    Request request = {"reponses", show};
    int left;
#ifndef BROKEN
    snprintf(request.back, sizeof request.back, "reponses.%s", name); /* to each his own */
    mkfifo(request.back, 0600);
#endif
    (void)name;
    int back = must(open(request.back, O_RDWR), request.back);
    write(must(open("demandes", O_WRONLY), "demandes"), &request, sizeof request);
    window();
    read(back, &left, sizeof left);
    say("spectacle %d : %d places", show, left);
}

int main(int argc, char **argv) {
    if (argc > 2)
        client(argv[1], atoi(argv[2]));
    else
        server();
    return 0;
}
