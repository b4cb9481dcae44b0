/* What every reference program shares: the structures, exactly as the original declares them (so that
 * the compiler lays them out, not us), the data file, the command line, whole reads and writes. */
#ifndef SPECTACLES_H
#define SPECTACLES_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define MAX_SPECTACLE 10
#define DATA_FILE "spectacles.dat"
#define TYPE_LIST 1
#define TYPE_RESERV 2
#define FTOK_PROJ 42
#define PORT 5000

typedef struct {
    int id; /* 0: empty slot */
    char nom[50];
    char date[11];
    int places;
} Spectacle;

/* Q2 to Q4: messages of the System V queue */
typedef struct { long mtype; pid_t pid; } Request_list;
typedef struct { long mtype; pid_t pid; Spectacle spectacles[MAX_SPECTACLE]; } Response_list;
typedef struct { long mtype; pid_t pid; int spectacle; int nb_places; } Request_reservation;
typedef struct { long mtype; pid_t pid; bool ack; } Response_reservation;

/* Q4: one generic request for both types */
typedef struct { long mtype; pid_t pid; int spectacle; int nb_places; } Request;

/* Q5: the same three names without mtype and PID; prefixed here, since one header holds them all */
typedef struct { int type; int spectacle; int nb_places; } Tcp_request;
typedef struct { Spectacle spectacles[MAX_SPECTACLE]; } Tcp_response_list;
typedef struct { bool ack; } Tcp_response_reservation;

/* x2_basket: more types of Tcp_request. All but TYPE_BASKET are answered as a reservation. */
#define TYPE_HOLD 3
#define TYPE_RELEASE 4
#define TYPE_CONFIRM 5 /* nb_places: all that is in the basket */
#define TYPE_BASKET 6
typedef struct { int seconds; Spectacle spectacles[MAX_SPECTACLE]; } Tcp_response_basket;

#define BODY(type) (sizeof(type) - sizeof(long)) /* what msgsnd and msgrcv count */

/* One line on stderr, then status 3. errno, when set, completes the line. */
__attribute__((noreturn, format(printf, 1, 2))) static inline void fail(const char *fmt, ...) {
    int error = errno;
    va_list ap;
    va_start(ap, fmt);
    fputs("[ERREUR] ", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (error)
        fprintf(stderr, " : %s", strerror(error));
    fputc('\n', stderr);
    exit(3);
}

#define refuse(...) (errno = 0, fail(__VA_ARGS__)) /* a failure that errno has no part in */

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* n bytes, or fewer only at end of file; -1 on error. */
static inline ssize_t read_full(int fd, void *buffer, size_t n) {
    size_t done = 0;
    while (done < n) {
        ssize_t r = TEMP_FAILURE_RETRY(read(fd, (char *)buffer + done, n - done));
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

static inline bool write_full(int fd, const void *buffer, size_t n) {
    size_t done = 0;
    while (done < n) {
        ssize_t w = TEMP_FAILURE_RETRY(write(fd, (const char *)buffer + done, n - done));
        if (w < 0)
            return false;
        done += (size_t)w;
    }
    return true;
}

/* The original's way of saving, kept as the yardstick of the benchmarks: truncate, write, no fsync. */
static inline bool save_table(const char *path, const Spectacle *table) {
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT, 0644);
    if (fd < 0)
        return false;
    bool ok = write_full(fd, table, MAX_SPECTACLE * sizeof *table);
    return close(fd) == 0 && ok;
}

static inline void sample_table(Spectacle *table) {
    static const Spectacle sample[] = {
        {1, "Le Malade imaginaire", "14/03/2026", 120},
        {2, "Carmen", "21/03/2026", 300},
        {3, "Soirée d'été : Noëlle à l'opéra", "20/06/2026", 45},
        {4, "Récital de clavecin", "02/04/2026", 8},
    };
    memset(table, 0, MAX_SPECTACLE * sizeof *table);
    memcpy(table, sample, sizeof sample);
}

/* False when there is no such file; anything but 720 bytes is fatal. */
static inline bool load_table(const char *path, Spectacle *table) {
    size_t size = MAX_SPECTACLE * sizeof *table;
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 && errno == ENOENT)
        return false;
    if (fd < 0 || fstat(fd, &st) < 0)
        fail("%s", path);
    if (st.st_size != (off_t)size || read_full(fd, table, size) != (ssize_t)size)
        refuse("%s : %lld octets au lieu de %zu", path, (long long)st.st_size, size);
    close(fd);
    return true;
}

static inline void load_or_create_table(const char *path, Spectacle *table) {
    if (load_table(path, table))
        return;
    sample_table(table);
    if (!save_table(path, table))
        fail("%s", path);
}

/* A text field as a JSON string; it may lack its final NUL in a damaged file. */
static inline void put_json_text(const char *text, size_t size) {
    putchar('"');
    for (size_t i = 0; i < size && text[i]; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static inline void put_json_show(int index, const Spectacle *s) {
    printf("{\"index\":%d,\"id\":%d,\"nom\":", index, s->id);
    put_json_text(s->nom, sizeof s->nom);
    fputs(",\"date\":", stdout);
    put_json_text(s->date, sizeof s->date);
    printf(",\"places\":%d}", s->places);
}

/* Every program takes the same options and leaves alone those it has no use for. */
typedef struct {
    const char *dir, *host;
    FILE *latencies;
    char sem_name[NAME_MAX];
    key_t key, shm_key;
    int port, show, seats;
    long count;
    double seconds, timeout;
    pid_t raw_pid;
    bool has_raw_pid, quiet;
    const char *args[4]; /* what is not an option: command, show, seats */
    int nargs;
} Options;

static inline long parse_long(const char *text, long low, long high) {
    char *end;
    errno = 0;
    long v = strtol(text, &end, 0);
    if (errno || end == text || *end || v < low || v > high)
        refuse("nombre invalide : %s", text);
    return v;
}

static inline int parse_int(const char *text) { return (int)parse_long(text, INT_MIN, INT_MAX); }

static inline double parse_seconds(const char *text) {
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v > 0 && v < 1e6))
        refuse("durée invalide : %s", text);
    return v;
}

/* Reads the command line, enters the run directory, and derives from it the names that were not given. */
static inline Options parse_options(int argc, char **argv) {
    Options o = {.dir = ".", .host = "127.0.0.1", .port = PORT, .seats = 1, .timeout = 5};
    const char *latencies = NULL;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strncmp(a, "--", 2) != 0) { /* "-1" is an argument too */
            if (o.nargs == (int)(sizeof o.args / sizeof *o.args))
                refuse("argument en trop : %s", a);
            o.args[o.nargs++] = a;
            continue;
        }
        if (strcmp(a, "--quiet") == 0) {
            o.quiet = true;
            continue;
        }
        const char *v = ++i < argc ? argv[i] : NULL;
        if (!v)
            refuse("valeur manquante ou option inconnue : %s", a);
#define OPTION(name, ...) else if (strcmp(a, name) == 0) __VA_ARGS__
        OPTION("--dir", o.dir = v;)
        OPTION("--key", o.key = (key_t)parse_long(v, INT_MIN, UINT_MAX);)
        OPTION("--shm-key", o.shm_key = (key_t)parse_long(v, INT_MIN, UINT_MAX);)
        OPTION("--sem-name", {
            if (snprintf(o.sem_name, sizeof o.sem_name, "%s", v) >= (int)sizeof o.sem_name)
                refuse("nom de sémaphore trop long : %s", v);
        })
        OPTION("--host", o.host = v;)
        OPTION("--port", o.port = (int)parse_long(v, 0, 65535);)
        OPTION("--show", o.show = parse_int(v);)
        OPTION("--seats", o.seats = parse_int(v);)
        OPTION("--count", o.count = parse_long(v, 1, LONG_MAX);)
        OPTION("--seconds", o.seconds = parse_seconds(v);)
        OPTION("--timeout", o.timeout = parse_seconds(v);)
        OPTION("--raw-pid", o.raw_pid = parse_int(v), o.has_raw_pid = true;)
        OPTION("--latencies", latencies = v;)
        else refuse("option inconnue : %s", a);
    }
    /* opened before chdir: its path is the caller's */
    if (latencies && !(o.latencies = fopen(latencies, "wb")))
        fail("%s", latencies);
    if (chdir(o.dir) < 0)
        fail("%s", o.dir);
    if (!o.key)
        o.key = ftok(".", FTOK_PROJ);
    if (!o.shm_key)
        o.shm_key = ftok(".", FTOK_PROJ + 1);
    if (!o.sem_name[0])
        snprintf(o.sem_name, sizeof o.sem_name, "/spectacles-c-%08x", (unsigned)o.key);
    return o;
}
#endif
