/* Question 2: one message queue, two children, shared segment and named semaphore. */
#include "serveur.h"

static void cleanup(void) {
    if (getpid() != shared.owner)
        return;
    destroy_queue();
    destroy_shared();
}

int main(int argc, char **argv) {
    Options o = server_options(argc, argv);
    block_signals();
    atexit(cleanup);
    create_shared(&o);
    create_queue(&o);
    spawn(serve_lists);
    spawn(serve_reservations);
    announce_queue(&o);
    return supervise();
}
