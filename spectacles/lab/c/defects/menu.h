/* What the three sound clients share: the menu of the course, whole lines in, a deadline for every answer. */
#ifndef MENU_H
#define MENU_H
#include "spectacles.h"
#include <signal.h>

#ifndef DEFECT
#define DEFECT 0
#endif

#define PATIENCE 5 /* seconds for one answer */

typedef struct {
    const Spectacle *(*list)(void); /* the catalogue; from Q2 on it says how many seats are left */
    int (*consult)(int show);       /* seats left, -1 for no such show; NULL where list() says it */
    bool (*reserve)(int show, int seats);
} Channel;

static inline void too_late(int sig) {
    static const char text[] = "\n[ERREUR] pas de réponse du serveur\n";
    (void)sig;
    _exit(write(2, text, sizeof text - 1) < 0 ? 3 : 3);
}

static inline void deadline(unsigned seconds) {
#if DEFECT == 4 /* waits for ever: its own end of the pipe keeps the end of file away (q1_client.c) */
    (void)seconds;
#else
    alarm(seconds);
#endif
}

/* One line, without its end; what is too long is cut, and its rest thrown away. False at the end of the input. */
static inline bool read_line(char *line, size_t size) {
#if DEFECT == 26 /* the end of the input is taken for an empty line, again and again */
    if (!fgets(line, (int)size, stdin))
        line[0] = '\0';
#else
    if (!fgets(line, (int)size, stdin))
        return false;
#endif
    size_t n = strcspn(line, "\n");
    if (line[n] == '\0' && n == size - 1)
        for (int c = getchar(); c != '\n' && c != EOF;)
            c = getchar();
    line[n] = '\0';
    return true;
}

/* Asks for a number: false for anything else, and ends the program at the end of the input. */
static inline bool ask(const char *prompt, int *value) {
    char *end;
    fputs(prompt, stdout);
    fflush(stdout);
#if DEFECT == 25 /* however long the word is */
    char line[16];
    if (scanf("%s", line) != 1) {
#else
    char line[64];
    if (!read_line(line, sizeof line)) {
#endif
        puts("\nFin de l'entrée, au revoir.");
        exit(0);
    }
    errno = 0;
    long v = strtol(line, &end, 10);
    *value = (int)v;
    return !errno && end != line && *end == '\0' && v >= INT_MIN && v <= INT_MAX;
}

static inline void show_places(int places) {
    if (places < 0)
        puts("Spectacle inexistant");
    else
        printf("Il reste %d places\n", places);
}

static inline void print_catalogue(const Spectacle *table) {
    for (int i = 0; i < MAX_SPECTACLE; i++)
        if (table[i].id != 0)
            printf("[%d] %.50s | %.11s | %d places\n", i, table[i].nom, table[i].date, table[i].places);
}

static inline int run_menu(const Channel *c) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGALRM, too_late);
#if DEFECT == 27
    signal(SIGUSR1, SIG_IGN);
#endif
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        int choice, show, seats;
        puts("\n==== MENU ====\n1. Consultation\n2. Réservation\n0. Quitter");
        if (!ask("Votre choix : ", &choice))
            choice = -1;
        if (choice == 0)
            return 0;
        if (choice == 1) {
            deadline(PATIENCE);
            print_catalogue(c->list());
            deadline(0);
            if (!c->consult)
                continue;
            if (!ask("Numéro du spectacle : ", &show)) {
                puts("Choix invalide");
                continue;
            }
            deadline(PATIENCE);
            int places = c->consult(show);
            deadline(0);
            show_places(places);
        } else if (choice == 2) {
            if (!ask("Numéro du spectacle à réserver : ", &show) || !ask("Nombre de places à réserver : ", &seats)) {
                puts("Choix invalide");
                continue;
            }
            deadline(PATIENCE);
            bool ack = c->reserve(show, seats);
            deadline(0);
            puts(ack ? "Réservation OK" : "Réservation refusée");
        } else {
            puts("Choix invalide");
        }
    }
}
#endif
