/* What the five sound servers share: the table, its lock and its file, one server a folder, how they stop.
 * Each `#if DEFECT == n` undoes one thing, and only that; without -DDEFECT nothing is undone. */
#ifndef GUICHET_H
#define GUICHET_H
#include "spectacles.h"
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>

#ifndef DEFECT
#define DEFECT 0
#endif
#ifndef RACE /* 29 where no call shows it: see reserve() */
#define RACE 0
#endif

static Spectacle *table; /* shared segment (Q1, Q2) or plain memory (Q3 to Q5) */
static sem_t *mutex;     /* named (Q1, Q2) or not (Q3 to Q5) */
static int data_fd = -1, folder_fd = -1;
static bool quiet;

#define LOG(...) (quiet ? 0 : printf(__VA_ARGS__))

static inline void lock(void) {
#if DEFECT == 29 /* a lock of a file belongs to the process: it keeps no thread out */
    struct flock whole = {.l_type = F_WRLCK};
    fcntl(data_fd, F_SETLKW, &whole);
#else
    TEMP_FAILURE_RETRY(sem_wait(mutex));
#endif
}

static inline void unlock(void) {
#if DEFECT == 29
    struct flock whole = {.l_type = F_UNLCK};
    fcntl(data_fd, F_SETLK, &whole);
#else
    sem_post(mutex);
#endif
}

/* Before leaving: nobody may be half-way through a change. One second, in case the holder is dead. */
static inline void lock_before_exit(void) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 1;
    TEMP_FAILURE_RETRY(sem_timedwait(mutex, &limit));
}

/* ---- the file: one record is written over in place, so that a kill in between leaves the old or the new ---- */

static inline bool save_record(int show, const Spectacle *record) {
#if DEFECT == 6 /* emptied, then written: whoever dies in between leaves nothing */
    Spectacle all[MAX_SPECTACLE];
    memcpy(all, table, sizeof all);
    all[show] = *record;
    return save_table(DATA_FILE, all);
#elif DEFECT == 32 /* only a clean exit saves: see finish() */
    return show >= 0 && record;
#else
    const char *from = (const char *)record;
    size_t done = 0;
    while (done < sizeof *record) {
        off_t at = (off_t)((size_t)show * sizeof *record + done);
        ssize_t n = TEMP_FAILURE_RETRY(pwrite(data_fd, from + done, sizeof *record - done, at));
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return TEMP_FAILURE_RETRY(fdatasync(data_fd)) == 0;
#endif
}

/* A new file appears whole or not at all. */
static inline void open_table(void) {
    if (!load_table(DATA_FILE, table)) {
        sample_table(table);
        if (!save_table(DATA_FILE ".tmp", table) || rename(DATA_FILE ".tmp", DATA_FILE) < 0)
            fail("%s", DATA_FILE);
    }
    data_fd = open(DATA_FILE, O_WRONLY | O_CLOEXEC);
    if (data_fd < 0)
        fail("%s", DATA_FILE);
}

/* The last thing that a server does. */
static inline void finish(void) {
#if DEFECT == 32
    save_table(DATA_FILE, table);
#endif
    LOG("[INFO] Serveur arrêté\n");
#if DEFECT == 34 /* whoever pressed Ctrl-C has to press Enter too */
    puts("Appuyez sur Entrée pour quitter");
    getchar();
#endif
}

/* ---- the service ---- */

static inline bool exists(int show) {
#if DEFECT == 5 /* an empty slot passes for a show */
    return show >= 0 && show < MAX_SPECTACLE;
#elif DEFECT == 23 /* numbers are taken as they come, here and in reserve() */
    return table[show].id != 0;
#else
    return show >= 0 && show < MAX_SPECTACLE && table[show].id != 0;
#endif
}

static inline int consult(int show) {
#if DEFECT == 3 /* never set anew: no such show gets what the last one got */
    static int places = -1;
#else
    int places = -1; /* no such show */
#endif
    lock();
    if (exists(show))
        places = table[show].places;
    unlock();
    return places;
}

static inline void copy_table(Spectacle *to) {
    lock();
    memcpy(to, table, MAX_SPECTACLE * sizeof *to);
    unlock();
}

static inline bool valid(int seats) {
#if DEFECT == 23
    return seats != 0;
#else
    return seats > 0;
#endif
}

/* True when the seats were taken: in the file first, then in memory. *left: seats left, -1 for no such show. */
static inline bool reserve(int show, int seats, int *left) {
    bool ok = false;
    *left = -1;
#if RACE /* what is saved is saved under the lock; the seats are taken without it (1), or looked at before it (2) */
    if (!exists(show))
        return false;
    bool enough = valid(seats) && table[show].places >= seats;
#if RACE == 2
    lock();
#endif
    if (enough)
        table[show].places -= seats;
#if RACE == 1
    lock();
#endif
    ok = enough && save_record(show, &table[show]);
    if (enough && !ok) {
        table[show].places += seats;
        save_record(show, &table[show]);
    }
    *left = table[show].places;
    unlock();
    return ok;
#endif
    lock();
    if (exists(show)) {
        if (valid(seats) && table[show].places >= seats) {
            Spectacle after = table[show];
            after.places -= seats;
            ok = save_record(show, &after);
            if (ok)
                table[show].places = after.places;
            else
                save_record(show, &table[show]); /* whatever part of it was written */
        }
        *left = table[show].places;
    }
#if DEFECT == 18 /* given back only when the seats were */
    if (!ok)
        return false;
#endif
    unlock();
    return ok;
}

static inline void log_reservation(const char *client, bool ok, int show, int seats, int left) {
    LOG("[RESERVATION] %s : %d place(s), spectacle %d, %s, reste %d\n", client, seats, show,
        ok ? "acceptée" : "refusée", left);
}

/* ---- one server a folder ---- */

/* The kernel gives this lock back however its holder dies. It is on the folder itself: no file is left behind. */
static inline void be_the_only_one(void) {
#if DEFECT == 9 /* nobody is asked whether he is there */
    return;
#endif
    folder_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0 || flock(folder_fd, LOCK_EX | LOCK_NB) < 0)
        refuse("un serveur tourne déjà dans ce dossier");
}

static inline Options server_options(int argc, char **argv) {
    Options o = parse_options(argc, argv);
    if (o.nargs)
        refuse("argument en trop : %s", o.args[0]);
    quiet = o.quiet;
#if DEFECT != 22 /* into a pipe, nothing shows until 4096 bytes are full */
    setvbuf(stdout, NULL, _IOLBF, 0); /* also keeps fork from doubling unwritten lines */
#endif
#if DEFECT != 19 /* whoever writes to a client that has gone dies of it */
    signal(SIGPIPE, SIG_IGN);
#endif
#if DEFECT == 36 /* no such file: -1, the key of every program that makes this mistake */
    o.key = ftok("guichet.cle", FTOK_PROJ);
#endif
    return o;
}

/* ---- Q1 and Q2: a parent and two children, shared segment, named semaphore ---- */

static struct {
    pid_t owner, children[4];
    void (*work[4])(void);
    int shmid, nchildren;
    char sem_name[NAME_MAX];
} shared = {.shmid = -1};

static inline void destroy_shared(void) {
    if (shared.shmid >= 0)
        shmctl(shared.shmid, IPC_RMID, NULL);
    if (mutex)
        sem_unlink(shared.sem_name);
}

/* What is there already is a dead server's: we are the only one in this folder. */
static inline void create_shared(const Options *o) {
    shared.owner = getpid();
    snprintf(shared.sem_name, sizeof shared.sem_name, "%s", o->sem_name);
#if DEFECT == 33 /* what a killed server left keeps the next one from starting */
    mutex = sem_open(o->sem_name, O_CREAT | O_EXCL, 0600, 1);
#elif DEFECT == 30 /* a semaphore that is there keeps its value, 0 if its holder was killed */
    mutex = sem_open(o->sem_name, O_CREAT, 0600, 1);
#else
    sem_unlink(o->sem_name);
    mutex = sem_open(o->sem_name, O_CREAT | O_EXCL, 0600, 1);
#endif
    if (mutex == SEM_FAILED) {
        mutex = NULL;
        fail("sémaphore %s", o->sem_name);
    }
#if DEFECT == 9
    shared.shmid = shmget(o->shm_key, MAX_SPECTACLE * sizeof *table, IPC_CREAT | 0600);
#else
    shmctl(shmget(o->shm_key, 0, 0), IPC_RMID, NULL);
    shared.shmid = shmget(o->shm_key, MAX_SPECTACLE * sizeof *table, IPC_CREAT | IPC_EXCL | 0600);
#endif
    if (shared.shmid < 0)
        fail("mémoire partagée de clef 0x%08x", (unsigned)o->shm_key);
    table = shmat(shared.shmid, NULL, 0);
    if (table == (void *)-1)
        fail("shmat");
    open_table();
}

/* SIGTERM and SIGINT stay blocked in the children: a Ctrl-C reaches the whole group, the parent decides. */
static sigset_t watched;

static inline void watch_signals(void) {
    struct sigaction sa = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGCHLD, &sa, NULL);
    sigemptyset(&watched);
#if DEFECT != 8 /* a signal ends it where it is, and what it made stays in the kernel */
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGHUP);
#endif
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, NULL);
}

static inline void start_children(void) {
    for (int i = 0; i < shared.nchildren; i++) {
        pid_t pid = fork();
        if (pid < 0)
            fail("fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != shared.owner) /* the parent died before the line above */
                _exit(1);
            close(folder_fd); /* the lock of the folder is the parent's */
            shared.work[i]();
            _exit(1);
        }
        shared.children[i] = pid;
    }
}

static inline void spawn(void (*work)(void)) { shared.work[shared.nchildren++] = work; }

static inline void end_children(void) {
    for (int i = 0; i < shared.nchildren; i++)
        kill(shared.children[i], SIGKILL);
    for (int i = 0; i < shared.nchildren; i++)
        TEMP_FAILURE_RETRY(waitpid(shared.children[i], NULL, 0));
}

/* A child has died, perhaps with the semaphore in its hands and the table half changed. All start afresh: the
 * semaphore free, the table what the file says, which is where a change is made first. */
static inline void recover(void) {
    sigset_t deaths;
    fputs("[ERREUR] un fils est mort : je relance les deux\n", stderr);
    end_children();
    sigemptyset(&deaths);
    sigaddset(&deaths, SIGCHLD);
    sigtimedwait(&deaths, NULL, &(struct timespec){0}); /* of those that we have just ended */
#if DEFECT != 10 /* the semaphore stays in the dead child's hands */
    while (sem_trywait(mutex) == 0)
        ;
    sem_post(mutex);
#endif
    load_table(DATA_FILE, table);
    usleep(20000); /* children that die at once must not make us spin */
    start_children();
}

/* Waits until it is asked to stop. */
static inline int supervise(void) {
    start_children();
    puts("[INFO] Serveur UP");
    while (TEMP_FAILURE_RETRY(sigwaitinfo(&watched, NULL)) == SIGCHLD)
        recover();
    lock_before_exit();
    end_children();
    finish();
    return 0;
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
    sigaction(SIGHUP, &sa, NULL);
    table = local_table;
    mutex = &local_mutex;
    if (sem_init(mutex, 0, 1) < 0)
        fail("sem_init");
    open_table();
}

static inline int leave(void) {
    lock_before_exit();
    finish();
    return stopping ? 0 : 1;
}
#endif
