/* Questions 4 and 5: a thread for each request, and many requests. */
#include "hazard.h"
#define REQUESTS 20

#ifdef BROKEN
#define MOST REQUESTS
#else
#define MOST 4
#endif

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int received, alive, most;

/* Long work: it lasts as long as others come, and there is room for them. */
static void *worker(void *unused) {
    (void)unused;
    pthread_mutex_lock(&mutex);
    while (received < REQUESTS && alive < MOST)
        pthread_cond_wait(&changed, &mutex);
    alive -= 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void server(void) {
    int queue = queue_made(KEY);
    pthread_t threads[REQUESTS];
    Message request;
    for (int i = 0; i < REQUESTS; i++) {
        must((int)msgrcv(queue, &request, BODY, 1, 0), "msgrcv");
        pthread_mutex_lock(&mutex);
        while (alive == MOST)
            pthread_cond_wait(&changed, &mutex);
        received += 1;
        alive += 1;
        most = alive > most ? alive : most;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
        if (pthread_create(&threads[i], NULL, worker, NULL))
            must(-1, "pthread_create");
    }
    for (int i = 0; i < REQUESTS; i++)
        pthread_join(threads[i], NULL);
    say("%d demandes, jusqu'à %d fils à la fois", REQUESTS, most);
}

int main(int argc, char **argv) {
    if (argc < 2 || !strcmp(argv[1], "server"))
        server();
    else
        for (int i = 0; i < REQUESTS; i++)
            send_message(must(msgget(KEY, 0), "msgget"), 1, getpid(), 0, 0);
    return 0;
}
