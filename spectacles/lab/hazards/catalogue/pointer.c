/* Question 4: what a new thread is told by its creator. */
#include "hazard.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int queue;
static volatile int *places;

static void *worker(void *argument) {
    window();
    pthread_mutex_lock(&mutex);
    Message *request = argument;
    places[request->show] -= request->places;
    send_message(queue, request->pid, 0, request->show, 1);
    pthread_mutex_unlock(&mutex);
#ifndef BROKEN
    free(argument);
#endif
    return NULL;
}

static void server(void) {
    Message request;
    pthread_t thread;
    places = seats_memory(120);
    queue = queue_made(KEY);
    while (msgrcv(queue, &request, BODY, 1, 0) >= 0) {
#ifdef BROKEN
        void *argument = &request; /* the same for all */
#else
        void *argument = memcpy(malloc(sizeof request), &request, sizeof request);
#endif
        if (pthread_create(&thread, NULL, worker, argument) == 0)
            pthread_detach(thread);
    }
}

int main(int argc, char **argv) {
    if (argc > 3)
        say("réservé : spectacle %d", asked(atoi(argv[2]), atoi(argv[3])).show);
    else
        server();
    return 0;
}
