#include "poste.h"
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static struct demande d;
static void ranger(void) { mq_unlink(d.boite); }
static void part(int n) { ranger(); signal(n, SIG_DFL); raise(n); }
static long lire(const char *question) {
    char ligne[80], *fin;
    printf("%s", question); fflush(stdout);
    if (!fgets(ligne, sizeof ligne, stdin)) exit(0);
    if (!strchr(ligne, '\n')) { int c; while ((c = getchar()) != '\n' && c != EOF); return -1; }
    long n = strtol(ligne, &fin, 10);
    return fin == ligne || *fin != '\n' || n > 1000000000L || n < -1000000000L ? -1 : n;
}
int main(void) {
    snprintf(d.boite, sizeof d.boite, "/poste-client-%d", (int)getpid());
    struct mq_attr taille = {.mq_maxmsg = 4, .mq_msgsize = sizeof(struct reponse)};
    mq_unlink(d.boite);
    mqd_t guichet = mq_open(GUICHET, O_WRONLY);
    if (guichet == (mqd_t)-1) { perror("Le guichet est fermé"); return 1; }
    mqd_t boite = mq_open(d.boite, O_CREAT | O_EXCL | O_RDONLY, 0600, &taille);
    if (boite == (mqd_t)-1) { perror(d.boite); return 1; }
    atexit(ranger);
    signal(SIGINT, part); signal(SIGTERM, part);
    for (;;) {
        long choix = lire("\n1 - Consulter un timbre\n2 - Acheter des timbres\n3 - Quitter\nChoix : ");
        if (choix == 3) return 0;
        if (choix != 1 && choix != 2) continue;
        d.quoi = (int32_t)choix; d.numero++;
        d.lot = (int32_t)lire("Numéro du lot (0 à 2) : ");
        d.combien = choix == 2 ? (int32_t)lire("Combien ? ") : 0;
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t); t.tv_sec += 10;
        struct reponse r;
        if (mq_timedsend(guichet, (char *)&d, sizeof d, 0, &t) < 0) { puts("Le guichet ne répond pas."); return 1; }
        do if (mq_timedreceive(boite, (char *)&r, sizeof r, NULL, &t) < 0) { puts("Le guichet ne répond pas."); return 1; }
        while (r.numero != d.numero);
        if (r.verdict == 2) puts("Ce lot n'existe pas.");
        else if (choix == 1) printf("Lot %d : il en reste %d\n", d.lot, r.reste);
        else puts(r.verdict ? "Achat refusé." : "Achat accepté.");
    }
}
