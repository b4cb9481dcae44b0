/* Questions 2 to 4: a message larger than what the server expects. */
#include "hazard.h"
#define ENOUGH 1000

#ifdef BROKEN
#define FLAGS 0
#else
#define FLAGS MSG_NOERROR /* what is too long is cut, and leaves the queue */
#endif

static void server(void) {
    int queue = queue_made(KEY), vain = 0;
    Message request;
    for (;;) {
        ssize_t size = msgrcv(queue, &request, BODY, 1, FLAGS);
        if (size < 0 && ++vain == ENOUGH) {
            say("%d essais : %s", vain, strerror(errno));
            exit(1);
        }
        if (size == (ssize_t)BODY && request.show < SHOWS)
            send_message(queue, request.pid, 0, request.show, 120);
    }
}

int main(int argc, char **argv) {
    if (argc < 2 || !strcmp(argv[1], "server"))
        server();
    else if (!strcmp(argv[1], "A")) {
        struct {
            long type;
            char body[100];
        } large = {1, ""};
        memset(large.body, 'x', sizeof large.body);
        must(msgsnd(must(msgget(KEY, 0), "msgget"), &large, sizeof large.body, 0), "msgsnd");
    } else
        say("%d places", asked(0, 0).places);
    return 0;
}
