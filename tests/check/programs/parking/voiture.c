/* A car: `3 p 2` asks for two places on level 3, `3 ?` how many are free. */
#include "parking.h"

static int mine = -1;

static void leave(void) {
    if (mine >= 0)
        msgctl(mine, IPC_RMID, NULL);
}

static void too_long(int sig) {
    static const char text[] = "La barrière ne répond pas.\n";
    (void)sig;
    leave();
    _exit(write(1, text, sizeof text - 1) < 0 ? 4 : 4);
}

static void turn_back(int sig) {
    leave();
    signal(sig, SIG_DFL);
    raise(sig);
}

int main(void) {
    char line[80], what;
    int level, cars, demands = msgget(barrier(), 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (demands < 0) {
        puts("Pas de barrière ici.");
        return 4;
    }
    atexit(leave);
    signal(SIGINT, turn_back);
    signal(SIGTERM, turn_back);
    signal(SIGHUP, turn_back);
    signal(SIGALRM, too_long);
    mine = msgget(IPC_PRIVATE, 0600);
    if (mine < 0) {
        perror("msgget");
        return 4;
    }
    for (;;) {
        fputs("niveau ? ou niveau p voitures, fin pour sortir > ", stdout);
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin) || strcmp(line, "fin\n") == 0)
            return 0;
        for (int c = strchr(line, '\n') ? '\n' : 0; c != '\n' && c != EOF;)
            c = getchar();
        int read = sscanf(line, "%d %c %d", &level, &what, &cars);
        if (!(read == 2 && what == '?') && !(read == 3 && what == 'p')) {
            puts("Plaît-il ?");
            continue;
        }
        if (level < 1 || level > LEVELS || (what == 'p' && (cars < 1 || cars > 1000))) {
            puts("Cela ne se peut pas.");
            continue;
        }
        struct demand d = {.type = what == 'p' ? PARK : ASK, .level = (short)(level - 1), .queue = mine, .pid = getpid()};
        struct ticket t;
        d.cars = what == 'p' ? (short)cars : 0;
        alarm(5);
        while (msgsnd(demands, &d, LENGTH(demand), 0) < 0)
            if (errno != EINTR) {
                puts("La barrière est partie.");
                return 4;
            }
        while (msgrcv(mine, &t, LENGTH(ticket), ANSWER, 0) < 0)
            if (errno != EINTR)
                return 4;
        alarm(0);
        if (what == '?')
            printf("niveau %d : %d libre(s)\n", level, t.free);
        else
            puts(t.granted ? "Garez-vous." : "Complet.");
    }
}
