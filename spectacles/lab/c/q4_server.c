/* Question 4: one receiver, one detached thread per request, one generic request. */
#include "serveur.h"

static void *handle(void *arg) {
    Request request = *(Request *)arg;
    free(arg);
    if (request.mtype == TYPE_LIST)
        answer_list(request.pid);
    else
        answer_reservation(request.pid, request.spectacle, request.nb_places);
    return NULL;
}

int main(int argc, char **argv) {
    Options o = server_options(argc, argv);
    pthread_attr_t detached;
    create_local();
    atexit(destroy_queue);
    create_queue(&o);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    announce_queue(&o);
    while (!stopping) {
        /* The size of what it points to; of the pointer itself is defect 17. */
        Request *request = malloc(sizeof *request);
        if (!request)
            fail("malloc");
        /* type -2: the lowest type up to 2, so never one of our own replies */
        ssize_t n = receive(request, BODY(Request), -TYPE_RESERV);
        if (n < 0) {
            free(request);
            break;
        }
        ssize_t least = request->mtype == TYPE_LIST ? sizeof(pid_t) : 3 * sizeof(int);
        pthread_t thread;
        if (n < least)
            free(request);
        else if (pthread_create(&thread, &detached, handle, request) != 0)
            handle(request); /* no thread to be had: serve it here */
    }
    return leave();
}
