/* Client of questions 2 to 4: the message queue. */
#include "client.h"

static int queue;
static pid_t self;
static bool raw; /* --raw-pid: another PID in the request, and nobody to read the reply */

static void open_queue(const Options *o) {
    queue = msgget(o->key, 0);
    if (queue < 0)
        fail("pas de serveur (file de messages 0x%08x)", (unsigned)o->key);
    raw = o->has_raw_pid;
    self = raw ? o->raw_pid : getpid();
    /* a dead client may have had our PID: drop what it never read */
    Response_list stale;
    while (!raw && msgrcv(queue, &stale, BODY(Response_list), self, IPC_NOWAIT | MSG_NOERROR) >= 0)
        ;
}

static void exchange(const void *request, size_t sent, void *response, size_t expected) {
    if (TEMP_FAILURE_RETRY(msgsnd(queue, request, sent, 0)) < 0)
        fail("msgsnd");
    if (raw) {
        puts("{\"sent\":true}");
        exit(0);
    }
    ssize_t n = TEMP_FAILURE_RETRY(msgrcv(queue, response, expected, self, 0));
    if (n < 0)
        fail("msgrcv");
    if ((size_t)n != expected)
        refuse("réponse de %zd octets au lieu de %zu", n, expected);
}

static const Spectacle *list(void) {
    static Request_list request; /* static: zero, padding included */
    static Response_list response;
    request.mtype = TYPE_LIST;
    request.pid = self;
    exchange(&request, BODY(Request_list), &response, BODY(Response_list));
    server_pid = response.pid;
    return response.spectacles;
}

static int consult(int show) {
    return places_of(list(), show);
}

static bool reserve(int show, int seats) {
    static Request_reservation request;
    static Response_reservation response;
    unsigned char ack;
    request.mtype = TYPE_RESERV;
    request.pid = self;
    request.spectacle = show;
    request.nb_places = seats;
    exchange(&request, BODY(Request_reservation), &response, BODY(Response_reservation));
    server_pid = response.pid;
    memcpy(&ack, &response.ack, 1); /* only 0 and 1 may be read as a bool */
    return ack != 0;
}

int main(int argc, char **argv) {
    static const Channel messages = {open_queue, list, consult, reserve, false};
    return run_client(argc, argv, &messages);
}
