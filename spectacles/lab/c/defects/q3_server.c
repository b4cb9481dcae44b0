/* Question 3, sound: the same service in one process, two threads. */
#include "file.h"

static void *consultation(void *unused) {
    serve_lists();
    return unused;
}

static void *reservation(void *unused) {
    serve_reservations();
    return unused;
}

int main(int argc, char **argv) {
    Options o = server_options(argc, argv);
    pthread_t lists, reservations;
    be_the_only_one();
    create_local();
    atexit(destroy_queue);
    create_queue(&o);
    if (pthread_create(&lists, NULL, consultation, NULL) ||
        pthread_create(&reservations, NULL, reservation, NULL))
        refuse("création des threads");
    puts("[INFO] Serveur UP");
    LOG("[INFO] file de messages 0x%08x\n", (unsigned)o.key);
    if (stopping) /* asked to stop before the queue existed */
        destroy_queue();
    pthread_join(lists, NULL);
    pthread_join(reservations, NULL);
    return leave();
}
