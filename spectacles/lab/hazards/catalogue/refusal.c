/* Question 5: a reservation that is refused. */
#include "hazard.h"

static sem_t lock;

static int reserve(volatile int *places, const Message *request) {
    sem_wait(&lock);
    if (request->places > places[request->show]) {
#ifndef BROKEN
        sem_post(&lock);
#endif
        return 0;
    }
    places[request->show] -= request->places;
    sem_post(&lock);
    return 1;
}

static void server(void) {
    volatile int *places = seats_memory(120);
    int queue = queue_made(KEY);
    Message request;
    sem_init(&lock, 0, 1);
    while (msgrcv(queue, &request, BODY, 1, 0) >= 0)
        send_message(queue, request.pid, 0, request.show, reserve(places, &request));
}

int main(int argc, char **argv) {
    if (argc > 2)
        say(asked(0, atoi(argv[2])).places ? "réservé" : "refusé");
    else
        server();
    return 0;
}
