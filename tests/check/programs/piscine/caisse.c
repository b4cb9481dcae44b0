/* The till: a parent and three forked workers that read the same FIFO. Sound; nothing like the box office. */
#include "bassin.h"

#define WORKERS 3

static const int start[LANES] = {6, 25, 1, 80};
static int demands = -1, lanes = -1, own = -1;
static pid_t workers[WORKERS];

static int lock_lane(int lane, short kind) {
    struct flock l = {.l_type = kind, .l_whence = SEEK_SET, .l_start = lane * (off_t)sizeof(int), .l_len = sizeof(int)};
    int done;
    do
        done = fcntl(lanes, F_SETLKW, &l);
    while (done < 0 && errno == EINTR);
    return done == 0;
}

static int put(int lane, int left) {
    ssize_t n;
    do
        n = pwrite(lanes, &left, sizeof left, lane * (off_t)sizeof left);
    while (n < 0 && errno == EINTR);
    return n == sizeof left && fdatasync(lanes) == 0;
}

static struct answer answer(const struct demand *d) {
    struct answer a = {.mark = d->mark, .ok = 0, .left = -1};
    int left;
    if (d->lane < 0 || d->lane >= LANES || !lock_lane(d->lane, F_WRLCK)) /* the kernel unlocks for whoever dies */
        return a;
    if (pread(lanes, &left, sizeof left, d->lane * (off_t)sizeof left) == sizeof left) {
        a.left = left;
        if (d->wanted > 0 && d->wanted <= left) {
            a.ok = put(d->lane, left - d->wanted);
            if (a.ok)
                a.left = left - d->wanted;
            else
                put(d->lane, left);
        }
    }
    lock_lane(d->lane, F_UNLCK);
    return a;
}

static void work(void) {
    struct demand d;
    ssize_t n;
    for (;;) {
        n = read(demands, &d, sizeof d);
        if (n < 0 && errno != EINTR)
            _exit(1);
        if (n != sizeof d || d.bather <= 1)
            continue;
        struct answer a = answer(&d);
        char name[32];
        struct stat st;
        fifo_of(d.bather, name, sizeof name);
        int fd = open(name, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC); /* nobody reads there: it fails at once */
        if (fd < 0) {
            if (errno == ENXIO && kill(d.bather, 0) < 0)
                unlink(name); /* a bather who has gone */
            continue;
        }
        if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && write(fd, &a, sizeof a) < 0)
            perror(name);
        close(fd);
        printf("couloir %d, %d demandé(s), reste %d\n", d.lane, d.wanted, a.left);
    }
}

static void hire(int i) {
    pid_t parent = getpid();
    workers[i] = fork();
    if (workers[i] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(own); /* the lock of the folder is the parent's */
        if (getppid() == parent)
            work();
        _exit(1);
    }
}

int main(void) {
    sigset_t watched;
    siginfo_t info;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&watched);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, NULL);

    if (mkfifo(DEMANDS, 0600) < 0 && errno != EEXIST) {
        perror(DEMANDS);
        return 1;
    }
    demands = open(DEMANDS, O_RDWR | O_CLOEXEC); /* so that it never ends while bathers come and go */
    own = open(".", O_RDONLY | O_CLOEXEC);
    if (demands < 0 || own < 0 || flock(own, LOCK_EX | LOCK_NB) < 0) {
        fprintf(stderr, "La caisse est déjà ouverte.\n");
        return 1;
    }
    lanes = open("couloirs", O_RDWR | O_CLOEXEC);
    if (lanes < 0) {
        lanes = open("couloirs.neuf", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (lanes < 0 || write(lanes, start, sizeof start) != sizeof start || rename("couloirs.neuf", "couloirs") < 0) {
            perror("couloirs");
            return 1;
        }
    }
    for (int i = 0; i < WORKERS; i++)
        hire(i);
    puts("Caisse ouverte.");
    for (;;) {
        if (sigwaitinfo(&watched, &info) < 0)
            continue;
        if (info.si_signo != SIGCHLD)
            break;
        pid_t dead;
        while ((dead = waitpid(-1, NULL, WNOHANG)) > 0)
            for (int i = 0; i < WORKERS; i++)
                if (workers[i] == dead) {
                    usleep(10000);
                    hire(i);
                }
    }
    for (int i = 0; i < WORKERS; i++)
        kill(workers[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    unlink(DEMANDS);
    puts("Caisse fermée.");
    return 0;
}
