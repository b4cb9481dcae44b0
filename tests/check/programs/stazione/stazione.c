/* Sells train seats: four processes born beforehand accept on one UNIX socket; the table is in anonymous shared memory,
   under a robust mutex; the parent replaces whoever dies. Sound; with -DFRAGILE the mutex dies with its owner. */
#define _GNU_SOURCE
#include "comune.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <poll.h>

enum { OPERAI = 4 };
struct tabella { pthread_mutex_t serratura; int32_t liberi[TRENI]; };
static struct tabella *tab;
static volatile sig_atomic_t fine;
static void segnale(int n) { (void)n; fine = 1; }

static void chiudi(void) { if (pthread_mutex_lock(&tab->serratura) == EOWNERDEAD) pthread_mutex_consistent(&tab->serratura); }

static int tutto(int fd, void *buf, size_t n, int scrivi) {
    for (size_t fatto = 0; fatto < n;) {
        struct pollfd p = {fd, scrivi ? POLLOUT : POLLIN, 0};
        int r = poll(&p, 1, 30000);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return -1;
        ssize_t k = scrivi ? send(fd, (char *)buf + fatto, n - fatto, MSG_NOSIGNAL) : recv(fd, (char *)buf + fatto, n - fatto, 0);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return -1;
        fatto += (size_t)k;
    }
    return 0;
}
static void operaio(int ascolto) {
    signal(SIGINT, SIG_IGN); signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        int fd = accept4(ascolto, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) { if (errno == EINTR || errno == ECONNABORTED) continue; _exit(1); }
        richiesta r;
        if (!tutto(fd, &r, sizeof r, 0)) {
            risposta s = {2, {0}};
            chiudi();
            if (r.verbo == 1) s.esito = 0;
            if (r.verbo == 2 && r.treno >= 1 && r.treno <= TRENI && r.posti > 0 && r.posti <= 100000) {
                if (r.posti <= tab->liberi[r.treno - 1]) { tab->liberi[r.treno - 1] -= r.posti; s.esito = 0; }
                else s.esito = 1;
            }
            memcpy(s.liberi, tab->liberi, sizeof s.liberi);
            pthread_mutex_unlock(&tab->serratura);
            tutto(fd, &s, sizeof s, 1);
        }
        close(fd);
    }
}
int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    int chiave = open("stazione.lucchetto", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (chiave < 0 || flock(chiave, LOCK_EX | LOCK_NB)) { fprintf(stderr, "La stazione è già aperta.\n"); return 1; }
    tab = mmap(NULL, sizeof *tab, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t a; pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
#ifndef FRAGILE
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
#endif
    pthread_mutex_init(&tab->serratura, &a);
    int32_t inizio[TRENI] = {90, 14, 33, 5};
    memcpy(tab->liberi, inizio, sizeof inizio);
    int ascolto = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un dove = {.sun_family = AF_UNIX, .sun_path = PERCORSO};
    unlink(PERCORSO);
    if (bind(ascolto, (void *)&dove, sizeof dove) || listen(ascolto, 64)) { perror(PERCORSO); return 1; }
    struct sigaction s = {.sa_handler = segnale};
    sigaction(SIGINT, &s, NULL); sigaction(SIGTERM, &s, NULL);
    signal(SIGPIPE, SIG_IGN);
    pid_t figli[OPERAI];
    for (int i = 0; i < OPERAI; i++) if (!(figli[i] = fork())) operaio(ascolto);
    puts("Stazione aperta");
    while (!fine) {
        pid_t morto = waitpid(-1, NULL, 0);
        if (fine || (morto < 0 && errno == EINTR)) continue;
        for (int i = 0; i < OPERAI; i++) if (figli[i] == morto) { usleep(20000); if (!(figli[i] = fork())) operaio(ascolto); }
    }
    for (int i = 0; i < OPERAI; i++) kill(figli[i], SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) ;
    unlink(PERCORSO);
    puts("Stazione chiusa");
    return 0;
}
