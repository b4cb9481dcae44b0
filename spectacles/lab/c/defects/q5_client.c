/* Client of question 5, sound: TCP, one connection for the whole session. */
#include "menu.h"
#include <arpa/inet.h>
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

static int on_the_wire(int n) {
#if DEFECT == 20
    return (int)htonl((uint32_t)n);
#else
    return n; /* little-endian: see layout.c */
#endif
}

static void exchange(int type, int show, int seats, void *response, size_t expected) {
    Tcp_request request = {on_the_wire(type), on_the_wire(show), on_the_wire(seats)};
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

static bool reserve(int show, int seats) {
    unsigned char ack; /* a byte first: only 0 and 1 may be read as a bool */
    exchange(TYPE_RESERV, show, seats, &ack, sizeof ack);
    return ack != 0;
}

int main(int argc, char **argv) {
    static const Channel tcp = {list, NULL, reserve};
    Options o = parse_options(argc, argv);
    open_socket(&o);
    return run_menu(&tcp);
}
