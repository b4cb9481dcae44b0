/* Question 5: two machines that do not write numbers in the same order. */
#include "hazard.h"

#ifdef BROKEN
#define WIRE(number) (number)
#else
#define WIRE(number) htonl(number) /* the order of the network, whoever writes */
#endif

/* On a machine whose first byte is the highest, the numbers in memory look like this to us. */
static unsigned as_on(const char *machine, unsigned number) {
    return strcmp(machine, "sparc") ? WIRE(number) : htonl(number);
}

static void server(void) {
    mkfifo("demandes", 0600);
    unsigned request[2];
    int requests = must(open("demandes", O_RDWR), "demandes");
    while (read(requests, request, sizeof request) == sizeof request)
        say("spectacle %u : %u places", WIRE(request[0]), WIRE(request[1]));
}

static void client(const char *machine, unsigned show, unsigned places) {
    unsigned request[2] = {as_on(machine, show), as_on(machine, places)};
    write(must(open("demandes", O_WRONLY), "demandes"), request, sizeof request);
}

int main(int argc, char **argv) {
    if (argc > 3)
        client(argv[1], (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
    else
        server();
    return 0;
}
