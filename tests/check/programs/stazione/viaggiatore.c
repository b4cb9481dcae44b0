#include "comune.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static const char *nomi[TRENI] = {"Roma", "Napoli", "Torino", "Bari"};
static int numero(const char *domanda, int *valore) {
    char riga[100];
    printf("%s", domanda); fflush(stdout);
    if (!fgets(riga, sizeof riga, stdin)) exit(0);
    if (!strchr(riga, '\n')) { int c; while ((c = getchar()) != '\n' && c != EOF) ; puts("Troppo lungo."); return -1; }
    char *resto; long n = strtol(riga, &resto, 10);
    if (resto == riga || *resto != '\n' || n < -2000000000 || n > 2000000000) { puts("Non è un numero."); return -1; }
    *valore = (int)n;
    return 0;
}
static void chiedi(richiesta r) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un dove = {.sun_family = AF_UNIX, .sun_path = PERCORSO};
    struct timeval limite = {15, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limite, sizeof limite);
    risposta s;
    if (connect(fd, (void *)&dove, sizeof dove) || send(fd, &r, sizeof r, MSG_NOSIGNAL) != sizeof r) {
        puts("La stazione è chiusa."); exit(1); }
    size_t ho = 0;
    while (ho < sizeof s) { ssize_t k = recv(fd, (char *)&s + ho, sizeof s - ho, 0); if (k <= 0) { puts("Nessuna risposta."); exit(1); } ho += (size_t)k; }
    close(fd);
    if (r.verbo == 1) for (int i = 0; i < TRENI; i++) printf("[%d] %s : %d posti liberi\n", i + 1, nomi[i], s.liberi[i]);
    else puts(s.esito == 0 ? "Prenotazione riuscita, buon viaggio!" : s.esito == 1 ? "Treno pieno." : "Richiesta errata.");
}
int main(void) {
    for (;;) {
        int scelta, treno, posti;
        if (numero("\n(1) Visualizza i treni\n(2) Prenota\n(0) Esci\nScelta > ", &scelta)) continue;
        if (scelta == 0) return 0;
        if (scelta == 1) chiedi((richiesta){1, 0, 0});
        if (scelta == 2 && !numero("Numero del treno > ", &treno) && !numero("Quanti posti > ", &posti)) chiedi((richiesta){2, treno, posti});
    }
}
