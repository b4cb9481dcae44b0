/* Two locks. */
#include "hazard.h"

int main(int argc, char **argv) {
    sem_t *first = semaphore_named(PREFIX "caisse", O_CREAT), *second = semaphore_named(PREFIX "salle", O_CREAT);
#ifdef BROKEN
    if (argc > 1 && !strcmp(argv[1], "B")) { /* who goes the other way round */
        sem_t *other = first;
        first = second;
        second = other;
    }
#endif
    (void)argc, (void)argv;
    sem_wait(first);
    window();
    sem_wait(second);
    say("servi");
    sem_post(second);
    sem_post(first);
    return 0;
}
