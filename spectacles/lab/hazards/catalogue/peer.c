/* Question 1: the client waits for an answer in a FIFO, and the server dies. */
#include "hazard.h"

static void server(void) {
    int show, left = 120;
    mkfifo("demandes", 0600);
    mkfifo("reponses", 0600);
    int requests = must(open("demandes", O_RDONLY), "demandes"), answers = must(open("reponses", O_WRONLY), "reponses");
    while (read(requests, &show, sizeof show) == sizeof show) {
        window();
        write(answers, &left, sizeof left);
    }
}

static void client(void) {
    int show = 0, left;
    int requests = must(open("demandes", O_WRONLY), "demandes");
#ifdef BROKEN
    int answers = must(open("reponses", O_RDWR), "reponses"); /* a writer himself: never sees the end */
#else
    int answers = must(open("reponses", O_RDONLY), "reponses");
#endif
    write(requests, &show, sizeof show);
    if (read(answers, &left, sizeof left) == sizeof left)
        say("%d places", left);
    else
        say("le serveur est parti");
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "server"))
        client();
    else
        server();
    return 0;
}
