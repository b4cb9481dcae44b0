/* Question 4: who comes first is served first? */
#include "hazard.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int queue;
static volatile int *places;

static void *serve(void *request_) {
    Message *request = request_;
    window();
    pthread_mutex_lock(&mutex);
    int sold = places[request->show] >= request->places;
    if (sold)
        places[request->show] -= request->places;
    pthread_mutex_unlock(&mutex);
    send_message(queue, request->pid, 0, request->show, sold);
    free(request);
    return NULL;
}

static void *serve_all(void *unused) {
    (void)unused;
    for (;;) {
        Message *request = malloc(sizeof *request);
        if (msgrcv(queue, request, BODY, 1, 0) < 0)
            return NULL;
#ifdef BROKEN
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, request) == 0) /* whoever gets the lock first */
            pthread_detach(thread);
#else
        serve(request); /* in the order of the queue */
#endif
    }
}

static void server(void) {
    places = seats_memory(1);
    queue = queue_made(KEY);
#ifndef BROKEN
    pthread_t thread;
    pthread_create(&thread, NULL, serve_all, NULL);
    pthread_join(thread, NULL);
#endif
    serve_all(NULL);
}

int main(int argc, char **argv) {
    if (argc > 2)
        say(asked(0, atoi(argv[2])).places ? "réservé" : "complet");
    else
        server();
    return 0;
}
