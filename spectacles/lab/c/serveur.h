/* What the five servers share: the table and its guard, a reservation, the messages of Q2 to Q4, and
 * two ways of stopping (a parent with two children; one process). */
#ifndef SERVEUR_H
#define SERVEUR_H
#include "spectacles.h"
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>

static Spectacle *table; /* shared segment (Q1, Q2) or plain memory (Q3 to Q5) */
static sem_t *mutex;     /* named (Q1, Q2) or not (Q3 to Q5) */
static bool quiet;

#define LOG(...) (quiet ? 0 : printf(__VA_ARGS__))

static inline void lock(void) {
    TEMP_FAILURE_RETRY(sem_wait(mutex));
}

static inline void unlock(void) { sem_post(mutex); }

/* Before leaving: nobody may be half-way through a save. One second, in case the holder is dead. */
static inline void lock_before_exit(void) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 1;
    if (TEMP_FAILURE_RETRY(sem_timedwait(mutex, &limit)) < 0)
        fputs("[ERREUR] sémaphore jamais rendu\n", stderr);
}

static inline int consult(int show) {
    int places = -1; /* no such show */
    lock();
    if (show >= 0 && show < MAX_SPECTACLE && table[show].id != 0)
        places = table[show].places;
    unlock();
    return places;
}

static inline void copy_table(Spectacle *to) {
    lock();
    memcpy(to, table, MAX_SPECTACLE * sizeof *to);
    unlock();
}

/* True when the seats were taken and the table saved. *left: seats left, -1 for no such show. */
static inline bool reserve(int show, int seats, int *left) {
    bool ok = false;
    *left = -1;
    lock();
    if (show >= 0 && show < MAX_SPECTACLE && table[show].id != 0) {
        if (seats > 0 && table[show].places >= seats) {
            table[show].places -= seats;
            ok = save_table(DATA_FILE, table);
            if (!ok)
                table[show].places += seats;
        }
        *left = table[show].places;
    }
    unlock();
    return ok;
}

static inline void log_reservation(const char *client, bool ok, int show, int seats, int left) {
    LOG("[RESERVATION] %s : %d place(s), spectacle %d, %s, reste %d\n", client, seats, show,
        ok ? "acceptée" : "refusée", left);
}

static inline Options server_options(int argc, char **argv) {
    Options o = parse_options(argc, argv);
    if (o.nargs)
        refuse("argument en trop : %s", o.args[0]);
    quiet = o.quiet;
    setvbuf(stdout, NULL, _IOLBF, 0); /* also keeps fork from doubling unwritten lines */
    signal(SIGPIPE, SIG_IGN);
    return o;
}

/* ---- Q1 and Q2: a parent and two children, shared segment, named semaphore ---- */

static struct {
    pid_t owner, children[2];
    int shmid, nchildren;
    char sem_name[NAME_MAX];
} shared = {.shmid = -1};

static inline void destroy_shared(void) {
    if (shared.shmid >= 0)
        shmctl(shared.shmid, IPC_RMID, NULL);
    if (mutex)
        sem_unlink(shared.sem_name);
}

/* O_EXCL and IPC_EXCL: a second server is turned away and touches nothing of the first one's. */
static inline void create_shared(const Options *o) {
    shared.owner = getpid();
    snprintf(shared.sem_name, sizeof shared.sem_name, "%s", o->sem_name);
    sem_t *sem = sem_open(o->sem_name, O_CREAT | O_EXCL, 0600, 1);
    if (sem == SEM_FAILED)
        fail("un serveur tourne déjà, ou a été tué (sémaphore %s)", o->sem_name);
    mutex = sem;
    shared.shmid = shmget(o->shm_key, MAX_SPECTACLE * sizeof *table, IPC_CREAT | IPC_EXCL | 0600);
    if (shared.shmid < 0)
        fail("mémoire partagée de clef 0x%08x", (unsigned)o->shm_key);
    table = shmat(shared.shmid, NULL, 0);
    if (table == (void *)-1)
        fail("shmat");
    load_or_create_table(DATA_FILE, table);
}

/* SIGTERM and SIGINT stay blocked in the children: a Ctrl-C reaches the whole group, the parent decides. */
static sigset_t watched;

static inline void block_signals(void) {
    struct sigaction sa = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGCHLD, &sa, NULL);
    sigemptyset(&watched);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, NULL);
}

static inline void spawn(void (*work)(void)) {
    pid_t pid = fork();
    if (pid < 0)
        fail("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != shared.owner) /* the parent died before the line above */
            _exit(1);
        work();
        _exit(1);
    }
    shared.children[shared.nchildren++] = pid;
}

/* Waits for a request to stop (0) or for the loss of a child (1), then ends the children. */
static inline int supervise(void) {
    int sig = TEMP_FAILURE_RETRY(sigwaitinfo(&watched, NULL));
    if (sig == SIGCHLD)
        fputs("[ERREUR] un fils est mort : arrêt du serveur\n", stderr);
    else
        lock_before_exit();
    for (int i = 0; i < shared.nchildren; i++) {
        kill(shared.children[i], SIGKILL);
        waitpid(shared.children[i], NULL, 0);
    }
    LOG("[INFO] Serveur arrêté\n");
    return sig == SIGCHLD;
}

/* ---- Q3 to Q5: one process; the handler takes the source of requests away, so that whoever waits on it
 *      returns, however the signal and the wait were ordered ---- */

static volatile sig_atomic_t stopping;
static int msgid = -1;     /* the queue (Q2 to Q4) */
static int listen_fd = -1; /* the listening socket (Q5) */

static inline void on_stop(int sig) {
    int saved = errno;
    (void)sig;
    stopping = 1;
    if (msgid >= 0)
        msgctl(msgid, IPC_RMID, NULL);
    if (listen_fd >= 0)
        shutdown(listen_fd, SHUT_RDWR);
    errno = saved;
}

static inline void create_local(void) {
    static Spectacle local_table[MAX_SPECTACLE];
    static sem_t local_mutex;
    struct sigaction sa = {.sa_handler = on_stop};
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    table = local_table;
    mutex = &local_mutex;
    if (sem_init(mutex, 0, 1) < 0)
        fail("sem_init");
    load_or_create_table(DATA_FILE, table);
}

static inline int leave(void) {
    lock_before_exit();
    LOG("[INFO] Serveur arrêté\n");
    return stopping ? 0 : 1;
}

/* ---- Q2 to Q4: the queue ---- */

static inline void destroy_queue(void) {
    if (msgid >= 0)
        msgctl(msgid, IPC_RMID, NULL);
}

static inline void create_queue(const Options *o) {
    msgid = msgget(o->key, IPC_CREAT | IPC_EXCL | 0600);
    if (msgid < 0)
        fail("un serveur tourne déjà, ou a été tué (file de messages 0x%08x)", (unsigned)o->key);
}

/* The size of the next body of that type, -1 once the queue is gone. An oversized message is cut rather
 * than left at the head, where msgrcv would fail on it for ever. */
static inline ssize_t receive(void *request, size_t body, long type) {
    return TEMP_FAILURE_RETRY(msgrcv(msgid, request, body, type, MSG_NOERROR));
}

/* A reply of type 1 or 2 would be a request, 0 or less an error. */
static inline bool bad_client(pid_t pid) {
    if (pid > TYPE_RESERV)
        return false;
    LOG("[ERREUR] PID %d refusé\n", pid);
    return true;
}

static inline void reply(const void *response, size_t body) {
    TEMP_FAILURE_RETRY(msgsnd(msgid, response, body, 0));
}

static inline void answer_list(pid_t client) {
    Response_list response;
    if (bad_client(client))
        return;
    memset(&response, 0, sizeof response); /* padding included */
    response.mtype = client;
    response.pid = getpid();
    copy_table(response.spectacles);
    LOG("[CONSULTATION] client %d\n", client);
    reply(&response, BODY(Response_list));
}

static inline void answer_reservation(pid_t client, int show, int seats) {
    Response_reservation response;
    char name[32];
    int left;
    if (bad_client(client))
        return;
    memset(&response, 0, sizeof response);
    response.mtype = client;
    response.pid = getpid();
    response.ack = reserve(show, seats, &left);
    snprintf(name, sizeof name, "client %d", client);
    log_reservation(name, response.ack, show, seats, left);
    reply(&response, BODY(Response_reservation));
}

/* The two loops of Q2 (one per child) and Q3 (one per thread); both end with the queue. */
static inline void serve_lists(void) {
    Request_list request;
    ssize_t n;
    while ((n = receive(&request, BODY(Request_list), TYPE_LIST)) >= 0)
        if (n >= (ssize_t)sizeof(pid_t))
            answer_list(request.pid);
}

static inline void serve_reservations(void) {
    Request_reservation request;
    ssize_t n;
    while ((n = receive(&request, BODY(Request_reservation), TYPE_RESERV)) >= 0)
        if (n >= (ssize_t)(3 * sizeof(int)))
            answer_reservation(request.pid, request.spectacle, request.nb_places);
}

static inline void announce_queue(const Options *o) {
    puts("[INFO] Serveur UP");
    LOG("[INFO] file de messages 0x%08x\n", (unsigned)o->key);
}
#endif
