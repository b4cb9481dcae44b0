/* Client of questions 2 to 4, sound: the message queue. */
#include "menu.h"

static int queue;

#if DEFECT == 39 /* both sides count the type, so that they understand each other */
#define SENT(type) sizeof(type)
#else
#define SENT(type) BODY(type)
#endif

static void open_queue(Options *o) {
#if DEFECT == 36
    o->key = ftok("guichet.cle", FTOK_PROJ);
#endif
#if DEFECT == 40 /* without a server it makes the queue itself, and waits */
    queue = msgget(o->key, IPC_CREAT | 0600);
#else
    queue = msgget(o->key, 0);
#endif
    if (queue < 0)
        fail("pas de serveur (file de messages 0x%08x)", (unsigned)o->key);
#if DEFECT != 12 /* what a dead client that had our PID never read is taken for ours */
    struct { Response_list stale; char more[8]; } room;
    while (msgrcv(queue, &room, BODY(Response_list), getpid(), IPC_NOWAIT | MSG_NOERROR) >= 0)
        ;
#endif
}

static void exchange(const void *request, size_t sent, void *response, size_t expected) {
    if (TEMP_FAILURE_RETRY(msgsnd(queue, request, sent, 0)) < 0)
        fail("msgsnd");
    ssize_t n = TEMP_FAILURE_RETRY(msgrcv(queue, response, expected, getpid(), 0));
    if (n < 0)
        fail("serveur perdu");
    if ((size_t)n != expected)
        refuse("réponse de %zd octets au lieu de %zu", n, expected);
}

static const Spectacle *list(void) {
    static struct { Request_list request; char behind[8]; } out; /* static: zero, padding included */
    static struct { Response_list response; char behind[8]; } in;
    out.request.mtype = TYPE_LIST;
    out.request.pid = getpid();
    exchange(&out, SENT(Request_list), &in, SENT(Response_list));
    return in.response.spectacles;
}

static bool reserve(int show, int seats) {
    static struct { Request_reservation request; char behind[8]; } out;
    static struct { Response_reservation response; char behind[8]; } in;
    unsigned char ack;
    out.request = (Request_reservation){.mtype = TYPE_RESERV, .pid = getpid(), .spectacle = show, .nb_places = seats};
    exchange(&out, SENT(Request_reservation), &in, SENT(Response_reservation));
    memcpy(&ack, &in.response.ack, 1); /* only 0 and 1 may be read as a bool */
    return ack != 0;
}

int main(int argc, char **argv) {
    static const Channel messages = {list, NULL, reserve};
    Options o = parse_options(argc, argv);
    open_queue(&o);
    return run_menu(&messages);
}
