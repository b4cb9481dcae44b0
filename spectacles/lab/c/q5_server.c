/* Question 5: TCP, one thread per connection, which lives as long as the session. */
#include "serveur.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

typedef struct {
    int fd;
    struct sockaddr_in peer;
} Session;

static void *serve(void *arg) {
    Session s = *(Session *)arg;
    char ip[INET_ADDRSTRLEN], name[INET_ADDRSTRLEN + 8];
    Tcp_request request;
    free(arg);
    inet_ntop(AF_INET, &s.peer.sin_addr, ip, sizeof ip);
    snprintf(name, sizeof name, "%s:%d", ip, ntohs(s.peer.sin_port));
    LOG("[INFO] client connecté : %s\n", name);
    while (read_full(s.fd, &request, sizeof request) == sizeof request) {
        bool sent;
        if (request.type == TYPE_LIST) {
            Tcp_response_list response;
            copy_table(response.spectacles);
            LOG("[CONSULTATION] %s\n", name);
            sent = write_full(s.fd, &response, sizeof response);
        } else if (request.type == TYPE_RESERV) {
            Tcp_response_reservation response;
            int left;
            response.ack = reserve(request.spectacle, request.nb_places, &left);
            log_reservation(name, response.ack, request.spectacle, request.nb_places, left);
            sent = write_full(s.fd, &response, sizeof response);
        } else {
            break; /* not our protocol: there is no answer to give */
        }
        if (!sent)
            break;
    }
    close(s.fd);
    LOG("[INFO] client déconnecté : %s\n", name);
    return NULL;
}

int main(int argc, char **argv) {
    Options o = server_options(argc, argv);
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *where;
    char port[8];
    int one = 1;
    snprintf(port, sizeof port, "%d", o.port);
    if (getaddrinfo(o.host, port, &hints, &where) != 0)
        refuse("adresse inconnue : %s", o.host);
    create_local();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in bound;
    socklen_t size = sizeof bound;
    if (bind(fd, where->ai_addr, where->ai_addrlen) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &size) < 0)
        fail("%s:%d", o.host, o.port);
    freeaddrinfo(where);
    listen_fd = fd; /* from here on the handler wakes accept */

    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    printf("[INFO] Serveur UP port %d\n", ntohs(bound.sin_port));
    while (!stopping) {
        Session *s = malloc(sizeof *s);
        if (!s)
            fail("malloc");
        size = sizeof s->peer;
        s->fd = accept4(fd, (struct sockaddr *)&s->peer, &size, SOCK_CLOEXEC);
        pthread_t thread;
        if (s->fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                usleep(10000); /* full for now: sessions will end */
            free(s);
            continue;
        }
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&thread, &detached, serve, s) != 0) {
            close(s->fd);
            free(s);
        }
    }
    return leave();
}
