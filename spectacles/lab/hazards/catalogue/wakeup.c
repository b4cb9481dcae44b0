/* A signal that says "your turn", and a process that waits for it. */
#include "hazard.h"

static volatile sig_atomic_t rung;

static void on_signal(int number) {
    (void)number;
    rung = 1;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t bell;
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&bell);
    sigaddset(&bell, SIGUSR1);
#ifndef BROKEN
    sigset_t before;
    sigprocmask(SIG_BLOCK, &bell, &before); /* from here on it waits until we do */
#endif
    while (!rung) {
        say("j'attends");
        window();
#ifdef BROKEN
        pause();
#else
        sigsuspend(&before); /* lets it in and waits, in one step */
#endif
    }
    say("réveillé");
    return 0;
}
