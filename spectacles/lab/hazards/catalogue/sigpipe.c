/* Question 5: the client goes away before it is answered. */
#include "hazard.h"

#ifdef BROKEN
#define FLAGS 0
#else
#define FLAGS MSG_NOSIGNAL /* then send() fails with EPIPE, and only this connection ends */
#endif

static struct sockaddr_in address(void) {
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    found.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return found;
}

static void server(void) {
    struct sockaddr_in at = address();
    int reuse = 1, show, answer[2] = {0, 120}, listener = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    must(bind(listener, (struct sockaddr *)&at, sizeof at), "bind");
    must(listen(listener, 8), "listen");
    for (;;) {
        int client = must(accept(listener, NULL, NULL), "accept");
        if (recv(client, &show, sizeof show, MSG_WAITALL) == sizeof show) {
            window();
            send(client, &answer[0], sizeof answer[0], FLAGS);
            send(client, &answer[1], sizeof answer[1], FLAGS);
        }
        close(client);
    }
}

static void client(void) {
    struct sockaddr_in at = address();
    int show = 0, answer[2], server = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    must(connect(server, (struct sockaddr *)&at, sizeof at), "connect");
    send(server, &show, sizeof show, MSG_NOSIGNAL);
    if (recv(server, answer, sizeof answer, MSG_WAITALL) == sizeof answer)
        say("%d places", answer[1]);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "server"))
        client();
    else
        server();
    return 0;
}
