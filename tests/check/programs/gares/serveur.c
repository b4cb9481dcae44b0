/* Sells seats by requests in shared memory: a semaphore wakes the server, one each the clients; whoever dies with the
   lock undoes it. Sound; with -DSANS_UNDO not. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>
#include "tableau.h"
static volatile sig_atomic_t fin;
static void demande_fin(int n) { (void)n; fin = 1; }
static int sem;
static int op(int n, int d, int flags) {
    struct sembuf o = {(unsigned short)n, (short)d, (short)flags};
    return semop(sem, &o, 1);
}
int main(void) {
    int moi = open("guichet.verrou", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (moi < 0 || flock(moi, LOCK_EX | LOCK_NB)) { fprintf(stderr, "un guichet est déjà ouvert\n"); return 1; }
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sigaction a = {.sa_handler = demande_fin};
    sigaction(SIGINT, &a, NULL); sigaction(SIGTERM, &a, NULL);
    int vieux = shmget(CLE, 0, 0); if (vieux >= 0) shmctl(vieux, IPC_RMID, NULL);
    vieux = semget(CLE, 0, 0); if (vieux >= 0) semctl(vieux, 0, IPC_RMID);
    int shm = shmget(CLE, sizeof(struct tableau), IPC_CREAT | IPC_EXCL | 0600);
    sem = semget(CLE, 2 + CASES, IPC_CREAT | IPC_EXCL | 0600);
    struct tableau *t = shm < 0 ? (void *)-1 : shmat(shm, NULL, 0);
    if (sem < 0 || t == (void *)-1) { perror("mémoire ou sémaphores"); return 1; }
    memset(t, 0, sizeof *t);
    int32_t debut[GARES] = {64, 10, 31, 5};
    memcpy(t->reste, debut, sizeof debut);
    t->serveur = getpid();
    unsigned short valeurs[2 + CASES] = {1};
    semctl(sem, 0, SETALL, valeurs);
    puts("Guichet ouvert");
    while (!fin) {
        if (op(SONNETTE, -1, 0) < 0) { if (errno == EINTR) continue; perror("semop"); break; }
        while (op(VERROU, -1, SEM_UNDO) < 0 && errno == EINTR) ;
        for (int i = 0; i < CASES; i++) {
            struct caisse *c = &t->cases[i];
            if (c->etat == PRISE || c->etat == DEMANDEE || c->etat == REPONDUE)
                if (kill(c->client, 0) < 0 && errno == ESRCH) { c->etat = LIBRE; semctl(sem, 2 + i, SETVAL, 0); continue; }
            if (c->etat != DEMANDEE) continue;
            int32_t g = c->gare, p = c->places;
            c->reponse = 2;
            if (g >= 0 && g < GARES && p >= 0) {
                c->reponse = p <= t->reste[g] ? 0 : 1;
                if (!c->reponse) t->reste[g] -= p;
                c->reste = t->reste[g];
            }
            c->etat = REPONDUE;
            op(2 + i, 1, IPC_NOWAIT);
        }
        while (op(VERROU, 1, SEM_UNDO) < 0 && errno == EINTR) ;
    }
    shmctl(shm, IPC_RMID, NULL);
    semctl(sem, 0, IPC_RMID);
    puts("Guichet fermé");
    return 0;
}
