/* Client of question 5: TCP, one connection for the whole session. */
#include "client.h"
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int sock;

static void open_socket(const Options *o) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *where;
    char port[8];
    int one = 1;
    snprintf(port, sizeof port, "%d", o->port);
    if (getaddrinfo(o->host, port, &hints, &where) != 0)
        refuse("adresse inconnue : %s", o->host);
    sock = socket(AF_INET, SOCK_STREAM, 0);
    if (sock < 0 || connect(sock, where->ai_addr, where->ai_addrlen) < 0)
        fail("pas de serveur (%s:%d)", o->host, o->port);
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    freeaddrinfo(where);
}

static void exchange(int type, int show, int seats, void *response, size_t expected) {
    Tcp_request request = {type, show, seats};
    if (!write_full(sock, &request, sizeof request))
        fail("serveur perdu");
    errno = 0;
    if (read_full(sock, response, expected) != (ssize_t)expected)
        fail("serveur perdu");
}

static const Spectacle *list(void) {
    static Tcp_response_list response;
    exchange(TYPE_LIST, 0, 0, &response, sizeof response);
    return response.spectacles;
}

static int consult(int show) {
    return places_of(list(), show);
}

static bool reserve(int show, int seats) {
    unsigned char ack; /* a byte first: only 0 and 1 may be read as a bool */
    _Static_assert(sizeof(Tcp_response_reservation) == sizeof ack, "one byte");
    exchange(TYPE_RESERV, show, seats, &ack, sizeof ack);
    return ack != 0;
}

int main(int argc, char **argv) {
    static const Channel tcp = {open_socket, list, consult, reserve, false};
    return run_client(argc, argv, &tcp);
}
