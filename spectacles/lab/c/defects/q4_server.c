/* Question 4, sound: one receiver, one detached thread per request, at most THREADS at a time. */
#include "file.h"

#define THREADS 64

static sem_t places; /* threads that may still be started */

static void *handle(void *arg) {
    Request request = *(Request *)arg;
#if DEFECT != 28
    free(arg);
#endif
    if (request.mtype == TYPE_LIST)
        answer_list(request.pid);
    else
        answer_reservation(request.pid, request.spectacle, request.nb_places);
    sem_post(&places);
    return NULL;
}

int main(int argc, char **argv) {
    Options o = server_options(argc, argv);
    pthread_attr_t detached;
    be_the_only_one();
    create_local();
    atexit(destroy_queue);
    create_queue(&o);
#if DEFECT == 16 /* as many threads as there are requests */
    sem_init(&places, 0, SEM_VALUE_MAX);
#else
    sem_init(&places, 0, THREADS);
#endif
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, 256 * 1024);
    puts("[INFO] Serveur UP");
    LOG("[INFO] file de messages 0x%08x\n", (unsigned)o.key);
    while (!stopping) {
#if DEFECT == 28 /* every thread is given the address of the one request */
        static Request only;
        Request *request = &only;
#else
        Request *request = malloc(sizeof *request);
        if (!request)
            fail("malloc");
#endif
#if DEFECT == 15 /* any type: what it has just answered too, unless the client was waiting for it already */
        usleep(500);
        ssize_t n = receive(request, BODY(Request), 0);
#else
        /* type -2: the lowest type up to 2, so never one of our own replies */
        ssize_t n = receive(request, BODY(Request), -TYPE_RESERV);
#endif
        if (n < 0)
            break;
        pthread_t thread;
        if (request->mtype > TYPE_RESERV || n < (ssize_t)(request->mtype == TYPE_LIST ? 1 : 3) * (ssize_t)sizeof(int)) {
#if DEFECT != 28
            free(request);
#endif
            continue;
        }
        TEMP_FAILURE_RETRY(sem_wait(&places));
        if (pthread_create(&thread, &detached, handle, request) != 0)
            handle(request); /* no thread to be had: serve it here */
    }
    return leave();
}
