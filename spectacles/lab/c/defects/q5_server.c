/* Question 5, sound: TCP, one thread per connection, at most SESSIONS at a time. */
#include "guichet.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#define SESSIONS 64
#define SILENCE 120 /* seconds without a request, then a session is over */

typedef struct {
    int fd; /* -1: free */
    uint64_t heard;
    struct sockaddr_in peer;
} Session;

#if DEFECT == 16 /* a thread for whoever comes */
static Session sessions[100000];
#else
static Session sessions[SESSIONS];
#endif
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER; /* of the sessions */

static void *serve(void *arg) {
    Session *s = arg;
    char ip[INET_ADDRSTRLEN], name[INET_ADDRSTRLEN + 8];
    Tcp_request request;
    inet_ntop(AF_INET, &s->peer.sin_addr, ip, sizeof ip);
    snprintf(name, sizeof name, "%s:%d", ip, ntohs(s->peer.sin_port));
    LOG("[INFO] client connecté : %s\n", name);
#if DEFECT == 7 /* a request that comes in two parts is no request */
    while (read(s->fd, &request, sizeof request) == sizeof request) {
#elif DEFECT == 24 /* whoever has gone goes on asking for what he asked for last */
    while (read_full(s->fd, &request, sizeof request), !stopping) {
#else
    while (read_full(s->fd, &request, sizeof request) == sizeof request) {
#endif
        bool sent;
#if DEFECT == 20 /* the byte order of the other half of the world, without a word about it */
        request.type = (int)ntohl((uint32_t)request.type);
        request.spectacle = (int)ntohl((uint32_t)request.spectacle);
        request.nb_places = (int)ntohl((uint32_t)request.nb_places);
#endif
        s->heard = now_ns();
        if (request.type == TYPE_LIST) {
            Tcp_response_list response;
            copy_table(response.spectacles);
            LOG("[CONSULTATION] %s\n", name);
            sent = write_full(s->fd, &response, sizeof response);
        } else if (request.type == TYPE_RESERV) {
            Tcp_response_reservation response;
            int left;
            response.ack = reserve(request.spectacle, request.nb_places, &left);
            log_reservation(name, response.ack, request.spectacle, request.nb_places, left);
#if DEFECT == 18 /* and who is refused gets no answer */
            if (!response.ack)
                continue;
#endif
            sent = write_full(s->fd, &response, sizeof response);
        } else {
            break; /* not our protocol: there is no answer to give */
        }
#if DEFECT != 24
        if (!sent)
            break;
#else
        (void)sent;
#endif
    }
    LOG("[INFO] client déconnecté : %s\n", name);
    pthread_mutex_lock(&guard);
#if DEFECT == 37 /* the descriptor stays */
    shutdown(s->fd, SHUT_RDWR);
#else
    close(s->fd);
#endif
    s->fd = -1;
    pthread_mutex_unlock(&guard);
    return NULL;
}

/* A free session; where there is none, the one that has been silent for longest is ended. NULL: try again. */
static Session *find_room(void) {
    Session *silent = &sessions[0], *found = NULL;
    pthread_mutex_lock(&guard);
    for (size_t i = 0; i < sizeof sessions / sizeof *sessions && !found; i++) {
        if (sessions[i].fd < 0)
            found = &sessions[i];
        else if (sessions[i].heard < silent->heard)
            silent = &sessions[i];
    }
    if (!found)
        shutdown(silent->fd, SHUT_RDWR);
    pthread_mutex_unlock(&guard);
    return found;
}

int main(int argc, char **argv) {
    Options o = server_options(argc, argv);
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *where;
    struct timeval silence = {.tv_sec = SILENCE}, patience = {.tv_sec = 5};
    char port[8];
    int one = 1;
    snprintf(port, sizeof port, "%d", o.port);
#if DEFECT == 21 /* every interface, for whoever can reach this machine */
    o.host = "0.0.0.0";
#endif
    if (getaddrinfo(o.host, port, &hints, &where) != 0)
        refuse("adresse inconnue : %s", o.host);
    be_the_only_one();
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

    for (size_t i = 0; i < sizeof sessions / sizeof *sessions; i++)
        sessions[i].fd = -1;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, 256 * 1024);
    printf("[INFO] Serveur UP port %d\n", ntohs(bound.sin_port));
    while (!stopping) {
        struct sockaddr_in peer;
        size = sizeof peer;
        int client = accept4(fd, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
        if (client < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                usleep(10000); /* full for now: sessions will end */
            continue;
        }
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
        setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        Session *s;
        while (!(s = find_room()) && !stopping)
            usleep(1000);
        pthread_t thread;
        if (s) {
            *s = (Session){client, now_ns(), peer};
            if (pthread_create(&thread, &detached, serve, s) == 0)
                continue;
            s->fd = -1;
        }
        close(client);
    }
    return leave();
}
