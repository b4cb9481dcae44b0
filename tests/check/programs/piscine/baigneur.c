/* A bather: `baigneur 2` asks how many may still swim in lane 2, `baigneur 2 3` buys three tickets. */
#include "bassin.h"

static char own[32];

static void tidy(void) { unlink(own); }

static void stopped(int sig) {
    tidy();
    signal(sig, SIG_DFL);
    raise(sig);
}

int main(int argc, char **argv) {
    char *end = "", *more = "";
    struct demand d = {.bather = getpid(), .mark = (unsigned)getpid() * 2654435761u};
    struct answer a;
    errno = 0;
    long lane = argc > 1 ? strtol(argv[1], &end, 10) : -1, wanted = argc > 2 ? strtol(argv[2], &more, 10) : 0;
    if (argc < 2 || argc > 3 || *end || *more || errno || lane < 1 || lane > LANES || (argc > 2 && (wanted < 1 || wanted > 500))) {
        puts("Demande impossible : baigneur COULOIR [BILLETS]");
        return 1;
    }
    d.lane = (int)lane - 1;
    d.wanted = (int)wanted;
    int demands = open(DEMANDS, O_WRONLY | O_NONBLOCK);
    if (demands < 0) {
        puts("La piscine est fermée.");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, stopped);
    signal(SIGTERM, stopped);
    fifo_of(getpid(), own, sizeof own);
    unlink(own);
    if (mkfifo(own, 0600) < 0) {
        perror(own);
        return 2;
    }
    atexit(tidy);
    int answers = open(own, O_RDONLY | O_NONBLOCK);
    if (answers < 0 || write(demands, &d, sizeof d) != sizeof d) {
        puts("La piscine est fermée.");
        return 2;
    }
    struct pollfd p = {.fd = answers, .events = POLLIN};
    for (int tries = 0; tries < 50; tries++) { /* five seconds, in parts: a hang-up comes before anybody has written */
        if (poll(&p, 1, 100) > 0 && (p.revents & POLLIN) && read(answers, &a, sizeof a) == sizeof a && a.mark == d.mark) {
            if (argc == 2)
                printf("Couloir %ld : encore %d.\n", lane, a.left);
            else
                puts(a.ok ? "Plongez !" : "Trop de monde.");
            return argc == 2 || a.ok ? 0 : 1;
        }
        if (p.revents & POLLHUP)
            usleep(1000);
    }
    puts("Personne à la caisse.");
    return 2;
}
