/* Sells stamps: a POSIX queue for requests, one of each client's for answers; nothing on disk. Sound; with -DCONFIANT
   numbers are not checked. */
#include "poste.h"
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#ifdef CONFIANT
#define SENSE(n) 1
#else
#define SENSE(n) ((n) > 0)
#endif

static volatile sig_atomic_t fini;
static void arret(int n) { (void)n; fini = 1; }

int main(void) {
    int32_t reste[LOTS] = {70, 8, 31};
    int dossier = open(".", O_RDONLY);
    if (dossier < 0 || flock(dossier, LOCK_EX | LOCK_NB)) { fputs("Le guichet est déjà ouvert.\n", stderr); return 1; }
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sigaction a = {.sa_handler = arret};
    sigaction(SIGINT, &a, NULL); sigaction(SIGTERM, &a, NULL);
    mq_unlink(GUICHET);
    struct mq_attr taille = {.mq_maxmsg = 10, .mq_msgsize = sizeof(struct demande)};
    mqd_t guichet = mq_open(GUICHET, O_CREAT | O_EXCL | O_RDONLY, 0600, &taille);
    if (guichet == (mqd_t)-1) { perror(GUICHET); return 1; }
    puts("Guichet ouvert");
    while (!fini) {
        struct demande d;
        ssize_t recu = mq_receive(guichet, (char *)&d, sizeof d, NULL);
        if (recu < 0 && errno == EINTR) continue;
        if (recu < 0) { perror("mq_receive"); break; }
        if (recu != sizeof d || !memchr(d.boite, 0, sizeof d.boite) || strncmp(d.boite, "/poste-client-", 14)) continue;
        struct reponse r = {d.numero, 2, 0};
        if (d.lot >= 0 && d.lot < LOTS) {
            if (d.quoi == 1) r.verdict = 0;
            if (d.quoi == 2 && SENSE(d.combien) && d.combien <= reste[d.lot]) { reste[d.lot] -= d.combien; r.verdict = 0; }
            else if (d.quoi == 2) r.verdict = 1;
            r.reste = reste[d.lot];
        }
        mqd_t boite = mq_open(d.boite, O_WRONLY | O_NONBLOCK);
        if (boite == (mqd_t)-1) continue;
        mq_send(boite, (char *)&r, sizeof r, 0);
        mq_close(boite);
    }
    mq_close(guichet);
    mq_unlink(GUICHET);
    puts("Guichet fermé");
    return 0;
}
