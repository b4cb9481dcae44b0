/* What the three clients share: the commands, the deadline, the closed-loop load generator. */
#ifndef CLIENT_H
#define CLIENT_H
#include "spectacles.h"
#include <signal.h>
#include <sys/time.h>

typedef struct {
    void (*open)(const Options *o);
    const Spectacle *(*list)(void);
    int (*consult)(int show); /* seats left, -1 for no such show */
    bool (*reserve)(int show, int seats);
    bool bench_list_consults; /* Q1: there is no whole list on the wire */
} Channel;

static pid_t server_pid; /* found in the last reply, 0 where the protocol has none */

/* The deadline costs nothing per request: four ticks without a finished request, and it is over. */
static volatile uint64_t finished;

static inline void tick(int sig) {
    static uint64_t seen;
    static int idle;
    static const char text[] = "[ERREUR] délai dépassé\n";
    (void)sig;
    idle = finished == seen ? idle + 1 : 0;
    seen = finished;
    if (idle >= 4) {
        if (write(2, text, sizeof text - 1) < 0)
            _exit(3);
        _exit(3);
    }
}

static inline void start_deadline(double timeout) {
    struct sigaction sa = {.sa_handler = tick, .sa_flags = SA_RESTART};
    long us = (long)(timeout * 1e6 / 4) + 1;
    struct itimerval it = {{us / 1000000, us % 1000000}, {us / 1000000, us % 1000000}};
    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &it, NULL);
}

static inline int places_of(const Spectacle *table, int show) {
    return show >= 0 && show < MAX_SPECTACLE && table[show].id != 0 ? table[show].places : -1;
}

static inline void end_line(void) {
    if (server_pid)
        printf(",\"server_pid\":%d", server_pid);
    puts("}");
}

static inline int bench(const Channel *c, const Options *o) {
    enum { LIST, CONSULT, RESERVE } op;
    const char *what = o->nargs > 1 ? o->args[1] : "";
    if (strcmp(what, "list") == 0)
        op = c->bench_list_consults ? CONSULT : LIST;
    else if (strcmp(what, "consult") == 0)
        op = CONSULT;
    else if (strcmp(what, "reserve") == 0)
        op = RESERVE;
    else
        refuse("bench list|consult|reserve");
    double seconds = o->seconds > 0 ? o->seconds : o->count ? 1e6 : 1.0;
    uint64_t limit = o->count ? (uint64_t)o->count : UINT64_MAX;
    uint64_t requests = 0, ok = 0, room = 0, *latency = NULL;
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), before = start;
    while (requests < limit && before < end) {
        bool good = op == LIST      ? c->list() != NULL
                    : op == CONSULT ? c->consult(o->show) >= 0
                                    : c->reserve(o->show, o->seats);
        uint64_t after = now_ns();
        if (o->latencies) {
            if (requests == room) {
                room = room ? 2 * room : 1 << 16;
                latency = realloc(latency, room * sizeof *latency);
                if (!latency)
                    fail("realloc");
            }
            latency[requests] = after - before;
        }
        ok += good;
        finished = ++requests;
        before = after;
    }
    printf("{\"requests\":%ju,\"ok\":%ju,\"refused\":%ju,\"seconds\":%.6f", (uintmax_t)requests, (uintmax_t)ok,
           (uintmax_t)(requests - ok), (double)(before - start) / 1e9);
    end_line();
    if (o->latencies &&
        (fwrite(latency, sizeof *latency, requests, o->latencies) != requests || fclose(o->latencies) != 0))
        fail("--latencies");
    free(latency);
    return 0;
}

static inline int run_client(int argc, char **argv, const Channel *c) {
    Options o = parse_options(argc, argv);
    const char *command = o.nargs ? o.args[0] : "";
    signal(SIGPIPE, SIG_IGN);
    start_deadline(o.timeout);
    if (strcmp(command, "list") == 0 && o.nargs == 1) {
        c->open(&o);
        const Spectacle *table = c->list();
        const char *comma = "";
        fputs("{\"shows\":[", stdout);
        for (int i = 0; i < MAX_SPECTACLE; i++)
            if (table[i].id != 0) {
                fputs(comma, stdout);
                put_json_show(i, &table[i]);
                comma = ",";
            }
        putchar(']');
        end_line();
        return 0;
    }
    if (strcmp(command, "consult") == 0 && o.nargs == 2) {
        int show = parse_int(o.args[1]);
        c->open(&o);
        int places = c->consult(show);
        printf("{\"show\":%d,\"places\":%d", show, places);
        end_line();
        return places < 0;
    }
    if (strcmp(command, "reserve") == 0 && o.nargs == 3) {
        int show = parse_int(o.args[1]), seats = parse_int(o.args[2]);
        c->open(&o);
        bool ack = c->reserve(show, seats);
        printf("{\"ack\":%s", ack ? "true" : "false");
        end_line();
        return !ack;
    }
    if (strcmp(command, "bench") == 0 && o.nargs == 2) {
        if (o.has_raw_pid)
            refuse("--raw-pid ne va pas avec bench");
        c->open(&o);
        return bench(c, &o);
    }
    refuse("commande : list | consult SPECTACLE | reserve SPECTACLE PLACES | bench list|consult|reserve");
}
#endif
