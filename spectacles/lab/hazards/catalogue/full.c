/* Questions 2 to 4: more requests than the queue has room for. */
#include "hazard.h"
#define REQUESTS 40

typedef struct {
    long type;
    char body[1024]; /* 16 of them fill a queue of the usual size to the last byte */
} Large;

#ifdef BROKEN
#define ANSWERS KEY /* answers go into the queue that the requests fill */
#else
#define ANSWERS (KEY + 1)
#endif

static void server(void) {
    int requests = queue_made(KEY), answers = queue_made(ANSWERS);
    Large request;
    while (msgrcv(requests, &request, sizeof request.body, 1, 0) >= 0) {
        window();
        request.type = 2;
        must(msgsnd(answers, &request, 1, 0), "msgsnd");
    }
}

static void client(void) {
    int requests = must(msgget(KEY, 0), "msgget"), answers = must(msgget(ANSWERS, 0), "msgget");
    Large request = {1, ""};
    for (int i = 0; i < REQUESTS; i++)
        must(msgsnd(requests, &request, sizeof request.body, 0), "msgsnd");
    for (int i = 0; i < REQUESTS; i++)
        must((int)msgrcv(answers, &request, sizeof request.body, 2, 0), "msgrcv");
    say("%d réponses", REQUESTS);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "server"))
        client();
    else
        server();
    return 0;
}
