/* What no system call shows: locks that nobody contends, accesses to shared memory, results of calls.

   A preload library. It reports each by a harmless system call that the gate's filter knows by its first argument,
   getppid(TAG, kind, a, b, c): so that one gate sees, and may hold, everything. `c` is where in the program it was asked
   for, 0 where that is an interpreter. $SPECTACLES_MARKS says which: "l" locks, "r" results, "a" accesses (x86-64 only),
   "t" threads: their beginnings, and with "a" what changes the program's own variables once there are threads; "c" the
   clock: see there; "q" no alarms, by the real clock. Without it, and outside the gate, nothing is changed.

   Accesses: the pages of shared memory are made inaccessible. Each access raises SIGSEGV, whose handler reports it, opens
   the pages and sets the trap flag; after that one instruction SIGTRAP closes them again. The kernel's own accesses do
   not trap, they fail: the calls that may be given such memory open it around themselves. While they do, the other
   threads of the process, if there are any, are not seen.

   Variables of a program with threads are made read-only, so that the kernel goes on reading from them. Only changes are
   seen, and only those that the program's own instructions make: what the C library changes for it, its locks among
   that, is let pass one instruction at a time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define TAG 0x5eedUL
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
enum { READS = 1, WRITES, WANTS, BUSY, HAS, LACKS, RELEASES, WAITS, WAKES, RESULT, NAMES, BEGINS }; /* as in calls.py */

static int gated, locks, results, accesses, threads, clocks, quiet;
static void nurse(int control);

/* For a program that says itself where its copies are to begin. */
void spectacles_nursery(void) {
    const char *control = getenv("SPECTACLES_NURSERY");
    if (gated && control)
        nurse(atoi(control));
}
static dev_t device; /* of the folder that the program was started in */
static uintptr_t interpreter_start, interpreter_end; /* of CPython: its own locks are not the program's */

static void mark(int kind, uintptr_t a, uintptr_t b, uintptr_t c) {
    int kept = errno;
    syscall(SYS_getppid, TAG, (long)kind, a, b, c);
    errno = kept;
}

static int find_interpreter(struct dl_phdr_info *info, size_t size, void *symbol) {
    uintptr_t start = UINTPTR_MAX, end = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD) {
            uintptr_t at = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            start = at < start ? at : start;
            end = at + info->dlpi_phdr[i].p_memsz > end ? at + info->dlpi_phdr[i].p_memsz : end;
        }
    if ((uintptr_t)symbol < start || (uintptr_t)symbol >= end)
        return 0;
    interpreter_start = start;
    interpreter_end = end;
    return 1;
}

__attribute__((constructor)) static void begin(void) {
    const char *asked = getenv("SPECTACLES_MARKS");
    void *python = dlsym(RTLD_DEFAULT, "Py_Initialize");
    struct stat here;
    if (!asked)
        return;
    gated = 1;
    device = stat(".", &here) == 0 ? here.st_dev : 0;
    if (python)
        dl_iterate_phdr(find_interpreter, python);
    results = strchr(asked, 'r') != NULL;
    locks = strchr(asked, 'l') != NULL;
    threads = strchr(asked, 't') != NULL;
    clocks = strchr(asked, 'c') != NULL;
    quiet = clocks || strchr(asked, 'q') != NULL;
#ifdef __x86_64__
    accesses = strchr(asked, 'a') != NULL;
#endif
    if (!getenv("SPECTACLES_NURSERY_LATER"))
        spectacles_nursery();
}

/* The same program many times: exec and the dynamic linker's work are done once. The process that was started stops here,
   before anything of the program has run, and has a child each time it is asked over `control`, a socket that keeps the
   bounds of messages. What it is asked with is the filter. The child has a session, a terminal and the filter of its own,
   says so with the descriptors of itself, of the listener and of the terminal's other side, and becomes the program by
   returning. What became of it is told when it has ended. */

static void tell(int control, const int *descriptors, int count) {
    struct iovec text = {(void *)"born", 4};
    char space[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &text, .msg_iovlen = 1, .msg_control = space,
                                          .msg_controllen = CMSG_SPACE(count * sizeof(int))}};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message.msg_hdr);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(head), descriptors, count * sizeof(int));
    syscall(SYS_sendmmsg, control, &message, 1, MSG_NOSIGNAL);
}

static int enter_terminal(void) {
    struct termios settings;
    struct winsize size = {24, 80, 0, 0};
    int unlocked = 0, number = 0;
    setsid();
    int master = syscall(SYS_openat, AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) < 0 || ioctl(master, TIOCGPTN, &number) < 0)
        return -1;
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR);
    if (slave < 0 || tcgetattr(slave, &settings) < 0)
        return -1;
    settings.c_lflag &= ~ECHO;
    tcsetattr(slave, TCSANOW, &settings);
    ioctl(slave, TIOCSWINSZ, &size);
    ioctl(slave, TIOCSCTTY, 0);
    for (int i = 0; i < 3; i++)
        dup2(slave, i);
    if (slave > 2)
        syscall(SYS_close, slave);
    return master;
}

static void nurse(int control) {
    static char filter[4096];
    unsetenv("SPECTACLES_NURSERY");
    for (;;) {
        ssize_t got = syscall(SYS_recvfrom, control, filter, sizeof filter, 0, NULL, NULL);
        if (got <= 0)
            _exit(0);
        pid_t child = fork();
        if (child == 0) {
            struct sock_fprog program = {got / sizeof(struct sock_filter), (void *)filter};
            int descriptors[3] = {-1, -1, enter_terminal()};
            descriptors[0] = syscall(SYS_pidfd_open, getpid(), 0);
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            descriptors[1] = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 8 | 32, &program); /* listener, wait killable */
            if (descriptors[1] < 0)
                descriptors[1] = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 8, &program);
            if (descriptors[0] < 0 || descriptors[1] < 0 || descriptors[2] < 0)
                _exit(127);
            tell(control, descriptors, 3);
            for (int i = 0; i < 3; i++) /* by a call that no filter of the gate's holds */
                syscall(SYS_close_range, descriptors[i], descriptors[i], 0);
            syscall(SYS_close_range, control, control, 0);
            return;
        }
        int status = 127 << 8;
        if (child > 0)
            while (syscall(SYS_wait4, child, &status, 0, NULL) < 0 && errno == EINTR)
                ;
        syscall(SYS_sendto, control, &status, sizeof status, MSG_NOSIGNAL, NULL, 0);
    }
}

#define CALLER ((uintptr_t)__builtin_return_address(0))
#define INTERPRETED (CALLER >= interpreter_start && CALLER < interpreter_end)
#define PLACE (INTERPRETED ? 0 : CALLER)
#define SEEN (locks && !INTERPRETED)
#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

/* Shared memory */

#define SEGMENTS 32
static struct { char *start; size_t size; int is_plain; } segments[SEGMENTS];
static int open_depth;

static int segment_of(const void *address) {
    for (int i = 0; i < SEGMENTS; i++)
        if (segments[i].size && (char *)address >= segments[i].start &&
            (char *)address < segments[i].start + segments[i].size)
            return i;
    return -1;
}

static int is_shared(const void *address) { return segment_of(address) >= 0; }

static void protect(int how) {
    int kept = errno;
    for (int i = 0; i < SEGMENTS; i++)
        if (segments[i].size)
            syscall(SYS_mprotect, segments[i].start, segments[i].size,
                    how == PROT_NONE && segments[i].is_plain ? PROT_READ : how);
    errno = kept;
}

static int open_pages(const void *address) {
    if (!accesses || !address || !is_shared(address))
        return 0;
    open_depth++;
    protect(PROT_READ | PROT_WRITE);
    return 1;
}

/* For a lock: nothing where the kernel only reads it, so that others are seen while somebody waits. */
static int open_for(const void *lock) {
    int segment = accesses && lock ? segment_of(lock) : -1;
    return segment >= 0 && !segments[segment].is_plain ? open_pages(lock) : 0;
}

static void close_pages(int opened) {
    if (opened && --open_depth == 0)
        protect(PROT_NONE);
}

#ifdef __x86_64__
static uintptr_t text_start, text_end; /* the program's own instructions */
static struct sigaction old_segv;

static void touched(int number, siginfo_t *info, void *context) {
    ucontext_t *user = context;
    int kept = errno;
    if (!is_shared(info->si_addr)) { /* a fault of the program's own: as if we were not there, when it faults again */
        sigaction(number, &old_segv, NULL);
        return;
    }
    uintptr_t at = (uintptr_t)user->uc_mcontext.gregs[REG_RIP];
    if (!segments[segment_of(info->si_addr)].is_plain || (at >= text_start && at < text_end))
        mark(user->uc_mcontext.gregs[REG_ERR] & 2 ? WRITES : READS, (uintptr_t)info->si_addr, at, 0);
    protect(PROT_READ | PROT_WRITE);
    user->uc_mcontext.gregs[REG_EFL] |= 0x100;
    errno = kept;
}

static void passed(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100;
    if (!open_depth)
        protect(PROT_NONE);
}
#endif

static void guard(void *start, size_t size, int is_plain) {
#ifdef __x86_64__
    static int installed;
    struct sigaction action = {.sa_sigaction = touched, .sa_flags = SA_SIGINFO};
    if (!accesses || start == MAP_FAILED)
        return;
    for (int i = 0; i < SEGMENTS; i++)
        if (!segments[i].size) {
            segments[i].start = start;
            segments[i].size = (size + 4095) & ~4095UL;
            segments[i].is_plain = is_plain;
            break;
        }
    if (!installed) {
        sigaction(SIGSEGV, &action, &old_segv);
        action.sa_sigaction = passed;
        sigaction(SIGTRAP, &action, NULL);
        installed = 1;
    }
    protect(PROT_NONE);
#else
    (void)start, (void)size, (void)is_plain;
#endif
}

/* The variables of the program itself: what it may write to, but for what the linker made read-only. */
static int find_variables(struct dl_phdr_info *info, size_t size, void *unused) {
#ifdef __x86_64__
    uintptr_t start = 0, end = 0, fixed = 0;
    (void)size, (void)unused;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t at = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X))
            text_start = at, text_end = at + part->p_memsz;
        if (part->p_type == PT_LOAD && (part->p_flags & PF_W))
            start = at, end = at + part->p_memsz;
        if (part->p_type == PT_GNU_RELRO)
            fixed = at + part->p_memsz;
    }
    start = ((fixed > start && fixed <= end ? fixed : start) + 4095) & ~4095UL;
    if (end > start)
        guard((void *)start, end - start, 1);
#else
    (void)info, (void)size, (void)unused;
#endif
    return 1; /* the first is the program */
}

static void guard_variables(void) {
    static int done;
    if (!done && threads && accesses && !interpreter_start)
        dl_iterate_phdr(find_variables, NULL);
    done = 1;
}

static void forget(const void *start) {
    for (int i = 0; i < SEGMENTS; i++)
        if (segments[i].size && segments[i].start == start) {
            syscall(SYS_mprotect, segments[i].start, segments[i].size, PROT_READ | PROT_WRITE);
            segments[i].size = 0;
        }
}

void *mmap(void *at, size_t size, int how, int flags, int fd, off_t offset) {
    REAL(void *, mmap, void *, size_t, int, int, int, off_t);
    void *got = real(at, size, how, flags, fd, offset);
    if ((flags & MAP_SHARED) && (how & PROT_WRITE))
        guard(got, size, 0);
    return got;
}

void *mmap64(void *at, size_t size, int how, int flags, int fd, off64_t offset) {
    return mmap(at, size, how, flags, fd, offset);
}

int munmap(void *start, size_t size) {
    REAL(int, munmap, void *, size_t);
    forget(start);
    return real(start, size);
}

/* Results. Of a call that the gate has just seen: it knows which. */

#define REPORT(value) \
    do { \
        if (results) \
            mark(RESULT, (uintptr_t)(long)(value), (long)(value) == -1 ? (uintptr_t)errno : 0, PLACE); \
    } while (0)

void *shmat(int id, const void *at, int flags) {
    REAL(void *, shmat, int, const void *, int);
    struct shmid_ds status;
    void *got = real(id, at, flags);
    REPORT(got == (void *)-1 ? -1 : 0);
    if (got != (void *)-1 && accesses && !(flags & SHM_RDONLY) && shmctl(id, IPC_STAT, &status) == 0)
        guard(got, status.shm_segsz, 0);
    return got;
}

int shmdt(const void *start) {
    REAL(int, shmdt, const void *);
    forget(start);
    return real(start);
}

/* A signal that comes while the gate has not yet taken a call in makes it fail with EINTR. Programs expect that of slow
   calls; of the others never: these are made again. */
#define SURE(type, name, parameters, arguments, ...) \
    type name parameters { \
        REAL(type, name, __VA_ARGS__); \
        type got; \
        do \
            got = real arguments; \
        while (got == -1 && errno == EINTR && gated); \
        REPORT(got); \
        return got; \
    }
#define PLAIN(type, name, parameters, arguments, ...) \
    type name parameters { \
        REAL(type, name, __VA_ARGS__); \
        type got = real arguments; \
        REPORT(got); \
        return got; \
    }
#define WITH(memory, type, name, parameters, arguments, ...) \
    type name parameters { \
        REAL(type, name, __VA_ARGS__); \
        int opened = open_pages(memory); \
        type got = real arguments; \
        REPORT(got); \
        close_pages(opened); \
        return got; \
    }

/* What the kernel writes into for a program, and no wrapper below needs for another reason. */
#define INTO(memory, type, name, parameters, arguments, ...) \
    type name parameters { \
        REAL(type, name, __VA_ARGS__); \
        int opened = open_pages(memory); \
        type got = real arguments; \
        int kept = errno; \
        close_pages(opened); \
        errno = kept; \
        return got; \
    }
INTO(fds, int, pipe, (int *fds), (fds), int *)
INTO(fds, int, pipe2, (int *fds, int flags), (fds, flags), int *, int)
INTO(found, int, stat, (const char *path, struct stat *found), (path, found), const char *, struct stat *)
INTO(found, int, lstat, (const char *path, struct stat *found), (path, found), const char *, struct stat *)
INTO(found, int, fstat, (int fd, struct stat *found), (fd, found), int, struct stat *)
INTO(found, int, getsockname, (int fd, struct sockaddr *found, socklen_t *size), (fd, found, size), int,
     struct sockaddr *, socklen_t *)
INTO(found, int, getpeername, (int fd, struct sockaddr *found, socklen_t *size), (fd, found, size), int,
     struct sockaddr *, socklen_t *)
INTO(found, int, getsockopt, (int fd, int level, int name, void *found, socklen_t *size), (fd, level, name, found, size),
     int, int, int, void *, socklen_t *)
INTO(old, int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old), int, const sigset_t *,
     sigset_t *)
INTO(old, int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old), int, const sigset_t *,
     sigset_t *)
INTO(number, int, sigwait, (const sigset_t *set, int *number), (set, number), const sigset_t *, int *)
INTO(info, int, sigwaitinfo, (const sigset_t *set, siginfo_t *info), (set, info), const sigset_t *, siginfo_t *)
INTO(parts, ssize_t, readv, (int fd, const struct iovec *parts, int count), (fd, parts, count), int,
     const struct iovec *, int)

/* The clock, where it is to be the same in every run: it begins at one moment, later than any that is now, goes on by a
   microsecond with each look at it, and by the whole of a sleep or of a time limit that was met. Each process has its
   own, from that of its parent on. Alarms never ring, and limits of locks, which are moments, are never met. */

static long long passed_time; /* nanoseconds */

static void pass(long long nanoseconds) { __atomic_fetch_add(&passed_time, nanoseconds, __ATOMIC_RELAXED); }

static void pass_until(const struct timespec *limit) {
    if (clocks && limit)
        pass(limit->tv_sec * 1000000000LL + limit->tv_nsec);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    if (!clocks || which == CLOCK_PROCESS_CPUTIME_ID || which == CLOCK_THREAD_CPUTIME_ID)
        return real(which, now);
    long long moment = __atomic_add_fetch(&passed_time, 1000, __ATOMIC_RELAXED);
    int is_date = which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE || which == CLOCK_TAI;
    now->tv_sec = (is_date ? 4102444800LL : 100000000LL) + moment / 1000000000; /* 2100-01-01; three years */
    now->tv_nsec = moment % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *now, void *zone) {
    REAL(int, gettimeofday, struct timeval *, void *);
    struct timespec found;
    if (!clocks)
        return real(now, zone);
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    REAL(time_t, time, time_t *);
    struct timespec found;
    if (!clocks)
        return real(now);
    clock_gettime(CLOCK_REALTIME, &found);
    if (now)
        *now = found.tv_sec;
    return found.tv_sec;
}

/* Chance is the same in every run too; not that of what the C library takes for itself. */
ssize_t getrandom(void *data, size_t size, unsigned flags) {
    REAL(ssize_t, getrandom, void *, size_t, unsigned);
    static unsigned long long state;
    if (!clocks)
        return real(data, size, flags);
    if (!state)
        state = (unsigned long long)getpid();
    for (size_t i = 0; i < size; i++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        ((unsigned char *)data)[i] = state >> 56;
    }
    return size;
}

int getentropy(void *data, size_t size) { return getrandom(data, size, 0) < 0 ? -1 : 0; }

unsigned alarm(unsigned seconds) {
    REAL(unsigned, alarm, unsigned);
    return quiet ? 0 : real(seconds);
}

int setitimer(__itimer_which_t which, const struct itimerval *new, struct itimerval *old) {
    REAL(int, setitimer, __itimer_which_t, const struct itimerval *, struct itimerval *);
    if (!quiet)
        return real(which, new, old);
    if (old)
        memset(old, 0, sizeof *old);
    return 0;
}

#define LIMITED(memory, met, type, name, parameters, arguments, ...) \
    type name parameters { \
        REAL(type, name, __VA_ARGS__); \
        int opened = open_pages(memory); \
        type got = real arguments; \
        int kept = errno; \
        if (clocks && got == 0) \
            met; \
        close_pages(opened); \
        errno = kept; \
        return got; \
    }
LIMITED(fds, if (limit > 0) pass(limit * 1000000LL), int, poll, (struct pollfd *fds, nfds_t count, int limit),
        (fds, count, limit), struct pollfd *, nfds_t, int)
LIMITED(fds, pass_until(limit), int, ppoll,
        (struct pollfd *fds, nfds_t count, const struct timespec *limit, const sigset_t *mask), (fds, count, limit, mask),
        struct pollfd *, nfds_t, const struct timespec *, const sigset_t *)
LIMITED(in ? in : out ? out : odd, if (limit) pass(limit->tv_sec * 1000000000LL + limit->tv_usec * 1000LL), int, select,
        (int count, fd_set *in, fd_set *out, fd_set *odd, struct timeval *limit), (count, in, out, odd, limit), int,
        fd_set *, fd_set *, fd_set *, struct timeval *)
LIMITED(in ? in : out ? out : odd, pass_until(limit), int, pselect,
        (int count, fd_set *in, fd_set *out, fd_set *odd, const struct timespec *limit, const sigset_t *mask),
        (count, in, out, odd, limit, mask), int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *)
LIMITED(found, if (limit > 0) pass(limit * 1000000LL), int, epoll_wait,
        (int fd, struct epoll_event *found, int most, int limit), (fd, found, most, limit), int, struct epoll_event *, int,
        int)
LIMITED(left, pass_until(time), int, nanosleep, (const struct timespec *time, struct timespec *left), (time, left),
        const struct timespec *, struct timespec *)

int clock_nanosleep(clockid_t which, int flags, const struct timespec *time, struct timespec *left) {
    REAL(int, clock_nanosleep, clockid_t, int, const struct timespec *, struct timespec *);
    int got = real(which, flags, time, left);
    struct timespec now;
    if (clocks && got == 0 && !(flags & TIMER_ABSTIME))
        pass_until(time);
    else if (clocks && got == 0 && clock_gettime(which, &now) == 0 && time->tv_sec >= now.tv_sec)
        pass((time->tv_sec - now.tv_sec) * 1000000000LL + time->tv_nsec - now.tv_nsec);
    return got;
}

int usleep(useconds_t time) {
    struct timespec whole = {time / 1000000, time % 1000000 * 1000};
    return nanosleep(&whole, NULL);
}

unsigned sleep(unsigned seconds) {
    struct timespec left = {seconds, 0};
    return nanosleep(&left, &left) == 0 ? 0 : left.tv_sec;
}

SURE(int, msgget, (key_t key, int flags), (key, flags), key_t, int)
SURE(int, semget, (key_t key, int count, int flags), (key, count, flags), key_t, int, int)
SURE(int, shmget, (key_t key, size_t size, int flags), (key, size, flags), key_t, size_t, int)
PLAIN(int, semop, (int id, struct sembuf *ops, size_t count), (id, ops, count), int, struct sembuf *, size_t)
PLAIN(int, semtimedop, (int id, struct sembuf *ops, size_t count, const struct timespec *limit), (id, ops, count, limit),
      int, struct sembuf *, size_t, const struct timespec *)
WITH(text, int, msgsnd, (int id, const void *text, size_t size, int flags), (id, text, size, flags), int, const void *,
     size_t, int)
WITH(text, ssize_t, msgrcv, (int id, void *text, size_t size, long type, int flags), (id, text, size, type, flags), int,
     void *, size_t, long, int)
WITH(data, ssize_t, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags), int, const void *,
     size_t, int)
WITH(data, ssize_t, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags), int, void *, size_t, int)
PLAIN(int, mq_send, (mqd_t id, const char *data, size_t size, unsigned level), (id, data, size, level), mqd_t, const char *,
      size_t, unsigned)
PLAIN(int, mq_timedsend, (mqd_t id, const char *data, size_t size, unsigned level, const struct timespec *limit),
      (id, data, size, level, limit), mqd_t, const char *, size_t, unsigned, const struct timespec *)
PLAIN(ssize_t, mq_receive, (mqd_t id, char *data, size_t size, unsigned *level), (id, data, size, level), mqd_t, char *,
      size_t, unsigned *)
PLAIN(ssize_t, mq_timedreceive, (mqd_t id, char *data, size_t size, unsigned *level, const struct timespec *limit),
      (id, data, size, level, limit), mqd_t, char *, size_t, unsigned *, const struct timespec *)
PLAIN(ssize_t, sendto, (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length),
      (fd, data, size, flags, to, length), int, const void *, size_t, int, const struct sockaddr *, socklen_t)
WITH(data, ssize_t, recvfrom, (int fd, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *length),
      (fd, data, size, flags, from, length), int, void *, size_t, int, struct sockaddr *, socklen_t *)
PLAIN(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags), int,
      const struct msghdr *, int)
PLAIN(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags), int, struct msghdr *, int)
PLAIN(int, connect, (int fd, const struct sockaddr *to, socklen_t length), (fd, to, length), int,
      const struct sockaddr *, socklen_t)
SURE(int, bind, (int fd, const struct sockaddr *to, socklen_t length), (fd, to, length), int, const struct sockaddr *,
      socklen_t)
WITH(from, int, accept, (int fd, struct sockaddr *from, socklen_t *length), (fd, from, length), int, struct sockaddr *,
      socklen_t *)
WITH(from, int, accept4, (int fd, struct sockaddr *from, socklen_t *length, int flags), (fd, from, length, flags), int,
      struct sockaddr *, socklen_t *, int)
SURE(int, mkfifo, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
SURE(int, unlink, (const char *path), (path), const char *)
SURE(int, rename, (const char *from, const char *to), (from, to), const char *, const char *)
SURE(int, fsync, (int fd), (fd), int)
SURE(int, fdatasync, (int fd), (fd), int)
SURE(int, ftruncate, (int fd, off_t size), (fd, size), int, off_t)
PLAIN(int, flock, (int fd, int how), (fd, how), int, int)
SURE(int, socket, (int family, int kind, int protocol), (family, kind, protocol), int, int, int)
SURE(int, listen, (int fd, int backlog), (fd, backlog), int, int)
SURE(int, msgctl, (int id, int command, struct msqid_ds *data), (id, command, data), int, int, struct msqid_ds *)
SURE(int, shmctl, (int id, int command, struct shmid_ds *data), (id, command, data), int, int, struct shmid_ds *)
SURE(int, kill, (pid_t pid, int number), (pid, number), pid_t, int)
WITH(status, pid_t, wait, (int *status), (status), int *)
WITH(status, pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options), pid_t, int *, int)
WITH(status, pid_t, wait4, (pid_t pid, int *status, int options, struct rusage *usage), (pid, status, options, usage), pid_t,
      int *, int, struct rusage *)

int semctl(int id, int number, int command, ...) {
    REAL(int, semctl, int, int, int, ...);
    va_list rest;
    va_start(rest, command);
    void *data = va_arg(rest, void *); /* a union semun, which fits, or nothing, which is not looked at */
    va_end(rest);
    int got;
    do
        got = real(id, number, command, data);
    while (got == -1 && errno == EINTR && gated);
    REPORT(got);
    return got;
}

int fcntl(int fd, int command, ...) {
    REAL(int, fcntl, int, int, ...);
    va_list rest;
    va_start(rest, command);
    void *data = va_arg(rest, void *);
    va_end(rest);
    int got;
    do
        got = real(fd, command, data);
    while (got == -1 && errno == EINTR && gated && command != F_SETLKW && command != F_OFD_SETLKW);
    if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW)
        REPORT(got);
    return got;
}

int fcntl64(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *data = va_arg(rest, void *);
    va_end(rest);
    return fcntl(fd, command, data);
}

pid_t fork(void) {
    REAL(pid_t, fork, void);
    pid_t got;
    do
        got = real();
    while (got == -1 && errno == EINTR && gated);
    return got;
}

typedef struct {
    void *(*run)(void *);
    void *data;
} Beginning;

static void *begin_thread(void *given) {
    Beginning beginning = *(Beginning *)given;
    free(given);
    mark(BEGINS, (uintptr_t)beginning.run, 0, (uintptr_t)beginning.run);
    return beginning.run(beginning.data);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *data) {
    REAL(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int got;
    Beginning *beginning = threads ? malloc(sizeof *beginning) : NULL;
    if (beginning) {
        *beginning = (Beginning){run, data};
        guard_variables();
    }
    do
        got = beginning ? real(thread, how, begin_thread, beginning) : real(thread, how, run, data);
    while (got == EINTR && gated);
    return got;
}

/* Reads of files elsewhere than where the program was started are left alone: an interpreter makes hundreds. */

static int is_told(int fd) {
    struct stat status;
    return results && (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_dev == device);
}

static int is_regular(int fd) {
    struct stat status;
    int kept = errno;
    int found = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    errno = kept;
    return found;
}

#define TRANSFER(name, buffer_type, parameters, arguments, ...) \
    ssize_t name parameters { \
        REAL(ssize_t, name, __VA_ARGS__); \
        int opened = open_pages(data); \
        ssize_t got; \
        int kept, told; \
        do { \
            got = real arguments; \
            kept = errno; \
            told = is_told(fd); \
            errno = kept; \
        } while (got < 0 && errno == EINTR && gated && is_regular(fd)); \
        if (told) \
            REPORT(got); \
        close_pages(opened); \
        return got; \
    }

TRANSFER(read, void *, (int fd, void *data, size_t size), (fd, data, size), int, void *, size_t)
TRANSFER(write, const void *, (int fd, const void *data, size_t size), (fd, data, size), int, const void *, size_t)
TRANSFER(pread, void *, (int fd, void *data, size_t size, off_t at), (fd, data, size, at), int, void *, size_t, off_t)
TRANSFER(pwrite, const void *, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), int, const void *,
         size_t, off_t)
TRANSFER(pread64, void *, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at), int, void *, size_t, off64_t)
TRANSFER(pwrite64, const void *, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), int,
         const void *, size_t, off64_t)

size_t fread(void *data, size_t size, size_t count, FILE *file) {
    REAL(size_t, fread, void *, size_t, size_t, FILE *);
    int opened = open_pages(data);
    size_t got = real(data, size, count, file);
    close_pages(opened);
    return got;
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    REAL(size_t, fwrite, const void *, size_t, size_t, FILE *);
    int opened = open_pages(data);
    size_t got = real(data, size, count, file);
    close_pages(opened);
    return got;
}

static int is_fifo(const char *path) {
    struct stat status;
    int found = stat(path, &status) == 0 && S_ISFIFO(status.st_mode);
    errno = EINTR;
    return found;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        int got; \
        do \
            got = real(path, flags, mode); \
        while (got < 0 && errno == EINTR && gated && !is_fifo(path)); \
        if ((flags & (O_ACCMODE | O_CREAT | O_TRUNC)) != O_RDONLY) \
            REPORT(got); \
        return got; \
    }
OPEN(open)
OPEN(open64)

/* Locks */

sem_t *sem_open(const char *name, int flags, ...) {
    REAL(sem_t *, sem_open, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    unsigned value = flags & O_CREAT ? va_arg(rest, unsigned) : 0;
    va_end(rest);
    sem_t *got = real(name, flags, mode, value);
    if (locks && got != SEM_FAILED)
        mark(NAMES, (uintptr_t)got, (uintptr_t)name, 0);
    return got;
}

/* Of semaphores and of mutexes alike. why: an errno, 0 once it has the lock. */
#define ENDED(lock, why) \
    do { \
        uintptr_t said = (uintptr_t)(why); \
        mark(said && said != EOWNERDEAD ? LACKS : HAS, (uintptr_t)(lock), said, 0); \
    } while (0)

/* Tries first, so that whether it had to wait is known; then waits as it would have. */
#define TAKE(type, trial, is_taken, why, name, parameters, arguments, ...) \
    int name parameters { \
        REAL(int, name, __VA_ARGS__); \
        static int (*try)(type *); \
        if (!try) \
            try = (int (*)(type *))dlsym(RTLD_NEXT, #trial); \
        if (!SEEN) \
            return real arguments; \
        mark(WANTS, (uintptr_t)lock, 0, PLACE); \
        int opened = open_for(lock); \
        int got = try(lock); \
        if (is_taken) { \
            mark(BUSY, (uintptr_t)lock, 0, 0); \
            got = real arguments; \
        } \
        close_pages(opened); \
        ENDED(lock, why); \
        return got; \
    }
#define TRY(type, why, name) \
    int name(type *lock) { \
        REAL(int, name, type *); \
        if (!SEEN) \
            return real(lock); \
        mark(WANTS, (uintptr_t)lock, 0, PLACE); \
        int opened = open_for(lock); \
        int got = real(lock); \
        close_pages(opened); \
        ENDED(lock, why); \
        return got; \
    }
#define GIVE(type, name) \
    int name(type *lock) { \
        REAL(int, name, type *); \
        if (SEEN) \
            mark(RELEASES, (uintptr_t)lock, 0, PLACE); \
        int opened = open_for(lock); \
        int got = real(lock); \
        close_pages(opened); \
        return got; \
    }

#define TAKE_SEMAPHORE(name, ...) \
    TAKE(sem_t, sem_trywait, got < 0 && errno == EAGAIN, got ? errno : 0, name, __VA_ARGS__)
TAKE_SEMAPHORE(sem_wait, (sem_t *lock), (lock), sem_t *)
TAKE_SEMAPHORE(sem_timedwait, (sem_t *lock, const struct timespec *limit), (lock, limit), sem_t *, const struct timespec *)
TAKE_SEMAPHORE(sem_clockwait, (sem_t *lock, clockid_t clock, const struct timespec *limit), (lock, clock, limit), sem_t *,
               clockid_t, const struct timespec *)
TRY(sem_t, got ? errno : 0, sem_trywait)
GIVE(sem_t, sem_post)

#define TAKE_MUTEX(name, ...) TAKE(pthread_mutex_t, pthread_mutex_trylock, got == EBUSY, got, name, __VA_ARGS__)
TAKE_MUTEX(pthread_mutex_lock, (pthread_mutex_t *lock), (lock), pthread_mutex_t *)
TAKE_MUTEX(pthread_mutex_timedlock, (pthread_mutex_t *lock, const struct timespec *limit), (lock, limit),
           pthread_mutex_t *, const struct timespec *)
TRY(pthread_mutex_t, got, pthread_mutex_trylock)
GIVE(pthread_mutex_t, pthread_mutex_unlock)

/* Of these the library has two versions on x86-64; dlsym may give the old one, whose condition has another layout. */
static void *condition(const char *name) {
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}

int pthread_cond_wait(pthread_cond_t *queue, pthread_mutex_t *lock) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *);
    if (!real)
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *))condition("pthread_cond_wait");
    if (!SEEN)
        return real(queue, lock);
    mark(WAITS, (uintptr_t)queue, (uintptr_t)lock, PLACE);
    int opened = open_for(lock);
    int got = real(queue, lock);
    close_pages(opened);
    mark(HAS, (uintptr_t)lock, (uintptr_t)got, 0);
    return got;
}

int pthread_cond_timedwait(pthread_cond_t *queue, pthread_mutex_t *lock, const struct timespec *limit) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real)
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))condition("pthread_cond_timedwait");
    if (!SEEN)
        return real(queue, lock, limit);
    mark(WAITS, (uintptr_t)queue, (uintptr_t)lock, PLACE);
    int opened = open_for(lock);
    int got = real(queue, lock, limit);
    close_pages(opened);
    mark(HAS, (uintptr_t)lock, (uintptr_t)got, 0);
    return got;
}

#define WAKE(name) \
    int name(pthread_cond_t *queue) { \
        static int (*real)(pthread_cond_t *); \
        if (!real) \
            real = (int (*)(pthread_cond_t *))condition(#name); \
        if (SEEN) \
            mark(WAKES, (uintptr_t)queue, 0, PLACE); \
        int opened = open_for(queue); \
        int got = real(queue); \
        close_pages(opened); \
        return got; \
    }
WAKE(pthread_cond_signal)
WAKE(pthread_cond_broadcast)
