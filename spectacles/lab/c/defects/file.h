/* What the sound servers of Q2 to Q4 share: the queue, where everybody writes into the same 16 KB. */
#ifndef FILE_H
#define FILE_H
#include "guichet.h"

#define SHELF 4096     /* requests that one worker keeps until there is room for their answers: more than a queue holds */
#define REMEMBERED 256 /* clients whose death is looked for when room is short */
#define PATIENCE 300   /* milliseconds for one answer, then it is given up */

typedef struct { long mtype; char body[sizeof(Request_reservation)]; } Any_request;

static _Thread_local struct {
    long type;
    int first, count;
    struct { Any_request request; ssize_t size; } kept[SHELF];
} shelf;
static _Atomic pid_t remembered[REMEMBERED]; /* all threads': that of a request is gone with it (Q4) */
static _Atomic unsigned next_remembered;

static inline void destroy_queue(void) {
    if (msgid >= 0)
        msgctl(msgid, IPC_RMID, NULL);
}

static inline void create_queue(const Options *o) {
#if DEFECT == 9
    msgid = msgget(o->key, IPC_CREAT | 0600);
#else
    msgctl(msgget(o->key, 0), IPC_RMID, NULL); /* a dead server's */
    msgid = msgget(o->key, IPC_CREAT | IPC_EXCL | 0600);
#endif
    if (msgid < 0)
        fail("file de messages 0x%08x", (unsigned)o->key);
}

/* The size of the next body of that type, -1 once the queue is gone. An oversized message is cut rather
 * than left at the head, where msgrcv would fail on it for ever. */
static inline ssize_t receive(void *request, size_t body, long type) {
    if (shelf.count > 0 && shelf.type == type) {
        ssize_t size = shelf.kept[shelf.first].size;
        memcpy(request, &shelf.kept[shelf.first].request, sizeof(long) + (size_t)size);
        shelf.first = (shelf.first + 1) % SHELF;
        shelf.count--;
        return size;
    }
#if DEFECT == 14 /* what is too long for the buffer stays at the head */
    ssize_t n;
    while ((n = TEMP_FAILURE_RETRY(msgrcv(msgid, request, body, type, 0))) < 0 && errno == E2BIG)
        ;
    return n;
#elif DEFECT == 31 /* a signal that means nothing ends the server */
    return msgrcv(msgid, request, body, type, MSG_NOERROR);
#elif DEFECT == 35 /* asks again and again whether there is something */
    ssize_t n;
    while ((n = msgrcv(msgid, request, body, type, MSG_NOERROR | IPC_NOWAIT)) < 0 && (errno == ENOMSG || errno == EINTR))
        ;
    return n;
#else
    return TEMP_FAILURE_RETRY(msgrcv(msgid, request, body, type, MSG_NOERROR));
#endif
}

/* A reply of type 1 or 2 would be a request, 0 or less an error; and one to the dead would stay. */
static inline bool bad_client(pid_t pid) {
#if DEFECT == 13 /* taken on trust */
    return false;
#endif
    if (pid > TYPE_RESERV && (kill(pid, 0) == 0 || errno != ESRCH))
        return false;
    LOG("[ERREUR] PID %d refusé\n", pid);
    return true;
}

static inline bool forget_replies(pid_t client) {
    static _Thread_local Response_list unread;
    bool some = false;
    while (msgrcv(msgid, &unread, BODY(Response_list), client, IPC_NOWAIT | MSG_NOERROR) >= 0)
        some = true;
    return some;
}

/* The queue is full. What will never be read goes: replies to the dead, and older ones to this client, which asks one
 * thing at a time and so has not read them. Then requests are taken out, to be served later. */
static inline bool make_room(pid_t client) {
    bool some = forget_replies(client);
    for (unsigned i = 0; i < REMEMBERED; i++)
        if (remembered[i] && kill(remembered[i], 0) < 0 && errno == ESRCH) {
            some |= forget_replies(remembered[i]);
            remembered[i] = 0;
        }
    while (shelf.type && shelf.count < SHELF) {
        int at = (shelf.first + shelf.count) % SHELF;
        ssize_t n = msgrcv(msgid, &shelf.kept[at].request, sizeof shelf.kept[at].request.body, shelf.type,
                           IPC_NOWAIT | MSG_NOERROR);
        if (n < 0)
            break;
        shelf.kept[at].size = n;
        shelf.count++;
        some = true;
    }
    return some;
}

/* Never blocks for long: a server that waits for room is one that no client can wake. */
static inline void reply(pid_t client, const void *response, size_t body) {
#if DEFECT == 11 /* waits until somebody makes room; nobody can but itself */
    TEMP_FAILURE_RETRY(msgsnd(msgid, response, body, 0));
    return;
#endif
    remembered[next_remembered++ % REMEMBERED] = client;
    for (int ms = 0; ms < PATIENCE; ms++) {
        if (TEMP_FAILURE_RETRY(msgsnd(msgid, response, body, IPC_NOWAIT)) == 0 || errno != EAGAIN)
            return;
        if (!make_room(client))
            usleep(1000);
    }
    LOG("[ERREUR] file pleine : réponse au client %d abandonnée\n", client);
}

#if DEFECT == 39 /* the size of the whole struct: the type is counted, and what lies behind it is sent */
#define SENT(type) sizeof(type)
#else
#define SENT(type) BODY(type)
#endif

static inline void answer_list(pid_t client) {
    struct { Response_list response; char behind[8]; } room;
    if (bad_client(client))
        return;
    memset(&room.response, 0, sizeof room.response); /* padding included */
    room.response.mtype = client;
    room.response.pid = getpid();
    copy_table(room.response.spectacles);
    LOG("[CONSULTATION] client %d\n", client);
    reply(client, &room.response, SENT(Response_list));
}

static inline void answer_reservation(pid_t client, int show, int seats) {
    struct { Response_reservation response; char behind[8]; } room;
    char name[32];
    int left;
    if (bad_client(client))
        return;
    memset(&room.response, 0, sizeof room.response);
    room.response.mtype = client;
    room.response.pid = getpid();
    room.response.ack = reserve(show, seats, &left);
    snprintf(name, sizeof name, "client %d", client);
    log_reservation(name, room.response.ack, show, seats, left);
#if DEFECT == 27 /* whoever the request says it is from is sent a signal, and most processes die of it */
    kill(client, SIGUSR1);
#endif
    reply(client, &room.response, SENT(Response_reservation));
}

/* The two loops of Q2 (one per child) and Q3 (one per thread); both end with the queue. */
static inline void serve_lists(void) {
    Request_list request;
    ssize_t n;
    shelf.type = TYPE_LIST;
    while ((n = receive(&request, BODY(Request_list), TYPE_LIST)) >= 0)
        if (n >= (ssize_t)sizeof(pid_t))
            answer_list(request.pid);
}

static inline void serve_reservations(void) {
    Request_reservation request;
    ssize_t n;
    shelf.type = TYPE_RESERV;
    while ((n = receive(&request, BODY(Request_reservation), TYPE_RESERV)) >= 0)
        if (n >= (ssize_t)(3 * sizeof(int)))
            answer_reservation(request.pid, request.spectacle, request.nb_places);
}
#endif
