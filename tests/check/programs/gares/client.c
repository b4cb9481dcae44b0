#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>
#include "tableau.h"
static int sem;
static int op(int n, int d, int flags, int secondes) {
    struct sembuf o = {(unsigned short)n, (short)d, (short)flags};
    struct timespec t = {secondes, 0};
    int r;
    while ((r = semtimedop(sem, &o, 1, &t)) < 0 && errno == EINTR) ;
    return r;
}
static int nombre(const char *question, int32_t *n) {
    char l[64], *f;
    fputs(question, stdout); fflush(stdout);
    if (!fgets(l, sizeof l, stdin)) exit(0);
    if (!strchr(l, '\n')) { int c; while ((c = getchar()) != '\n' && c != EOF) ; return -1; }
    long v = strtol(l, &f, 10);
    if (f == l || *f != '\n' || v < -2000000000L || v > 2000000000L) return -1;
    *n = (int32_t)v;
    return 0;
}
static void ferme(void) { puts("Le guichet est fermé."); exit(1); }
static void demander(int32_t gare, int32_t places, int montrer) {
    int shm = shmget(CLE, 0, 0600);
    sem = semget(CLE, 0, 0600);
    struct tableau *t = shm < 0 || sem < 0 ? (void *)-1 : shmat(shm, NULL, 0);
    if (t == (void *)-1 || kill(t->serveur, 0) < 0) ferme();
    int i = -1;
    for (int essai = 0; i < 0 && essai < 50; essai++) {
        if (op(VERROU, -1, SEM_UNDO, 10) < 0) ferme();
        for (i = CASES - 1; i >= 0 && t->cases[i].etat != LIBRE; i--) ;
        if (i >= 0) { struct caisse *c = &t->cases[i]; c->client = getpid(); c->gare = gare; c->places = places; c->etat = PRISE;
            semctl(sem, 2 + i, SETVAL, 0); c->etat = DEMANDEE; }
        if (op(VERROU, 1, SEM_UNDO, 10) < 0) ferme();
        if (op(SONNETTE, 1, 0, 10) < 0) ferme();
        if (i < 0) usleep(100000);
    }
    if (i < 0 || op(2 + i, -1, 0, 15) < 0) ferme();
    struct caisse c = t->cases[i];
    if (op(VERROU, -1, SEM_UNDO, 10) < 0) ferme();
    t->cases[i].etat = LIBRE;
    op(VERROU, 1, SEM_UNDO, 10);
    shmdt(t);
    if (c.reponse == 2) puts("Demande refusée : gare ou nombre inconnu.");
    else if (montrer) printf("Gare %d : %d places libres\n", gare, c.reste);
    else puts(c.reponse ? "Demande refusée : plus assez de places." : "Réservation faite.");
}
int main(void) {
    for (;;) {
        int32_t choix, gare, places;
        if (nombre("\n1 : voir une gare\n2 : réserver\n3 : quitter\nchoix > ", &choix)) continue;
        if (choix == 3) return 0;
        if (choix < 1 || choix > 2) continue;
        if (nombre("numéro de la gare (0-3) > ", &gare)) { puts("Demande refusée."); continue; }
        if (choix == 1) demander(gare, 0, 1);
        else if (nombre("nombre de places > ", &places) || places < 1) puts("Demande refusée.");
        else demander(gare, places, 0);
    }
}
