/* Questions 1 and 2: a server is started while another one is at work. */
#include "hazard.h"

static void server(void) {
#ifdef BROKEN
    sem_unlink(PREFIX "guichet");
#else
    int lock = must(open("verrou", O_RDWR | O_CREAT, 0600), "verrou");
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        say("un serveur est déjà là");
        exit(1);
    }
    sem_unlink(PREFIX "guichet"); /* now it can only be a dead one's */
#endif
    semaphore_named(PREFIX "guichet", O_CREAT);
    seats_file(1);
    say("prêt");
    pause();
}

static void client(void) {
    int file = seats_file(1), seats[SHOWS];
    sem_t *lock = semaphore_named(PREFIX "guichet", 0);
    sem_wait(lock);
    pread(file, seats, sizeof seats, 0);
    int sold = seats[0] > 0;
    if (sold) {
        window();
        seats[0] -= 1;
        pwrite(file, seats, sizeof seats, 0);
    }
    sem_post(lock);
    say(sold ? "vendu" : "complet");
}

int main(int argc, char **argv) {
    if (argc > 1 && strstr(argv[1], "ser"))
        server();
    else
        client();
    return 0;
}
