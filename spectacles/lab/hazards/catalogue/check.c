/* Check, then act: two sellers, one seat, memory that they share. */
#include "hazard.h"

int main(void) {
    volatile int *places = seats_memory(1);
    sem_t *lock = semaphore_named(PREFIX "guichet", O_CREAT);
#ifdef BROKEN
    (void)lock;
#else
    sem_wait(lock);
#endif
    int sold = places[0] > 0;
    if (sold) {
        window();
        places[0] -= 1;
    }
#ifndef BROKEN
    sem_post(lock);
#endif
    say(sold ? "vendu" : "complet");
    return 0;
}
