/* Questions 4 and 5: a thread for each request, and many requests. */
#include "hazard.h"
#include <sched.h>
#include <stdatomic.h>
#define REQUESTS 20

#ifdef BROKEN
#define MOST REQUESTS
#else
#define MOST 4
#endif

static atomic_int received, alive;

/* Long work: it lasts as long as others come, and there is room for them. */
static void *worker(void *unused) {
    (void)unused;
    while (received < REQUESTS && alive < MOST)
        sched_yield();
    alive -= 1;
    return NULL;
}

static void server(void) {
    int queue = queue_made(KEY), most = 0;
    pthread_t threads[REQUESTS];
    Message request;
    while (received < REQUESTS) {
        must((int)msgrcv(queue, &request, BODY, 1, 0), "msgrcv");
        while (alive == MOST)
            sched_yield();
        alive += 1;
        most = alive > most ? alive : most;
        if (pthread_create(&threads[received], NULL, worker, NULL))
            must(-1, "pthread_create");
        received += 1;
    }
    for (int i = 0; i < REQUESTS; i++)
        pthread_join(threads[i], NULL);
    say("%d demandes, jusqu'à %d threads à la fois", REQUESTS, most);
}

int main(int argc, char **argv) {
    if (argc < 2 || !strcmp(argv[1], "server"))
        server();
    else
        for (int i = 0; i < REQUESTS; i++)
            send_message(must(msgget(KEY, 0), "msgget"), 1, getpid(), 0, 0);
    return 0;
}
