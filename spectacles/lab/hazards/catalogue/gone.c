/* Question 1: the server opens a FIFO of a client who is no more. */
#include "hazard.h"

static void server(void) {
    char back[16];
    int left = 120;
    mkfifo("demandes", 0600);
    int requests = must(open("demandes", O_RDWR), "demandes");
    signal(SIGPIPE, SIG_IGN);
    while (read(requests, back, sizeof back) == sizeof back) {
        window();
#ifdef BROKEN
        int answer = open(back, O_WRONLY); /* waits for a reader */
#else
        int answer = open(back, O_WRONLY | O_NONBLOCK); /* ENXIO: there is none */
#endif
        if (answer < 0) {
            say("%s : plus personne", back);
            continue;
        }
        write(answer, &left, sizeof left);
        close(answer);
    }
}

static void client(const char *name) {
    char back[16] = "";
    int left;
    snprintf(back, sizeof back, "reponses.%s", name);
    mkfifo(back, 0600);
    int requests = must(open("demandes", O_WRONLY), "demandes"), answers = must(open(back, O_RDWR), back);
    write(requests, back, sizeof back);
    read(answers, &left, sizeof left);
    say("%d places", left);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "server"))
        client(argv[1]);
    else
        server();
    return 0;
}
