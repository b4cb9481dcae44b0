/* Question 2, sound: one message queue, two children, shared segment and named semaphore. */
#include "file.h"

#ifndef RESERVERS
#define RESERVERS 1 /* children that reserve: up to 3 */
#endif

static void cleanup(void) {
    if (getpid() != shared.owner)
        return;
    destroy_queue();
    destroy_shared();
}

#if DEFECT == 38 /* what it was refused is still cleaned up, by its names: the first one's */
static Options names;
static void cleanup_by_name(void) {
    if (shared.owner && getpid() != shared.owner)
        return;
    msgctl(msgget(names.key, 0), IPC_RMID, NULL);
    shmctl(shmget(names.shm_key, 0, 0), IPC_RMID, NULL);
    sem_unlink(names.sem_name);
}
#endif

int main(int argc, char **argv) {
    Options o = server_options(argc, argv);
    watch_signals();
#if DEFECT == 38
    names = o;
    atexit(cleanup_by_name);
#endif
    be_the_only_one();
    atexit(cleanup);
    create_shared(&o);
    create_queue(&o);
    LOG("[INFO] file de messages 0x%08x\n", (unsigned)o.key);
    spawn(serve_lists);
    for (int i = 0; i < RESERVERS; i++)
        spawn(serve_reservations);
    return supervise();
}
