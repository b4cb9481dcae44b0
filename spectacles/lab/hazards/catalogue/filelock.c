/* Questions 4 and 5: a lock on a file, between threads. */
#include "hazard.h"

static int queue, file;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void lock(int what) {
#ifdef BROKEN
    struct flock whole = {.l_type = (short)what, .l_whence = SEEK_SET};
    must(fcntl(file, F_SETLKW, &whole), "fcntl"); /* belongs to the process: its threads are never kept out */
#else
    if (what == F_WRLCK)
        pthread_mutex_lock(&mutex);
    else
        pthread_mutex_unlock(&mutex);
#endif
    (void)mutex;
}

static void *worker(void *argument) {
    Message *request = argument;
    int seats[SHOWS];
    lock(F_WRLCK);
    pread(file, seats, sizeof seats, 0);
    int sold = seats[0] > 0;
    if (sold) {
        window();
        seats[0] -= 1;
        pwrite(file, seats, sizeof seats, 0);
    }
    lock(F_UNLCK);
    send_message(queue, request->pid, 0, 0, sold);
    free(request);
    return NULL;
}

static void server(void) {
    Message request;
    pthread_t thread;
    file = seats_file(1);
    queue = queue_made(KEY);
    while (msgrcv(queue, &request, BODY, 1, 0) >= 0)
        if (pthread_create(&thread, NULL, worker, memcpy(malloc(sizeof request), &request, sizeof request)) == 0)
            pthread_detach(thread);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "server"))
        say(asked(0, 1).places ? "réservé" : "complet");
    else
        server();
    return 0;
}
