/* Programs that behave badly, each in one way, by its first argument. What they print first is their readiness. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static key_t key = 0x5eed0001;   /* or the second argument, for runs that share the machine's names */
static char name[64] = "/hostile"; /* likewise */

static void ready(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

static void for_ever(void) {
    for (;;)
        pause();
}

static void leave_objects(void) {
    int queue = msgget(key, IPC_CREAT | 0600);
    struct { long type; char text[8]; } message = {1, "bonjour"};
    msgsnd(queue, &message, sizeof message.text, 0);
    int memory = shmget(key, 4096, IPC_CREAT | 0600);
    shmat(memory, NULL, 0);
    int set = semget(key, 1, IPC_CREAT | 0600);
    struct sembuf up = {0, 1, 0};
    semop(set, &up, 1);
    sem_open(name, O_CREAT, 0600, 1);
    int shm = shm_open(name, O_CREAT | O_RDWR, 0600);
    if (ftruncate(shm, 4096) == 0)
        mmap(NULL, 4096, PROT_READ, MAP_SHARED, shm, 0);
    mq_open(name, O_CREAT | O_RDWR, 0600, NULL);
    mkfifo("tube", 0600);
    close(open("neuf", O_CREAT | O_WRONLY, 0600));
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "prise"};
    bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (argc > 2) {
        key = (key_t)strtoul(argv[2], NULL, 16);
        snprintf(name, sizeof name, "/hostile-%s", argv[2]);
    }
    if (!strcmp(what, "forks")) {
        ready("forks");
        for (;;)
            fork();
    } else if (!strcmp(what, "fills")) {
        char block[65536];
        memset(block, 'x', sizeof block);
        signal(SIGXFSZ, SIG_IGN);
        ready("fills");
        for (int i = 0;; i++) {
            char name[32];
            snprintf(name, sizeof name, "plein%d", i);
            int file = open(name, O_CREAT | O_WRONLY, 0600);
            if (file < 0)
                break;
            while (write(file, block, sizeof block) > 0)
                ;
            if (errno == ENOSPC)
                break;
            close(file);
        }
        ready("full");
    } else if (!strcmp(what, "ignores")) {
        for (int i = 1; i < 65; i++)
            signal(i, SIG_IGN);
        ready("ignores");
        for_ever();
    } else if (!strcmp(what, "daemon")) {
        if (fork() == 0) {
            setsid();
            if (fork() == 0) {
                signal(SIGHUP, SIG_IGN);
                ready("daemon");
                for (int i = 0; i < 3; i++)
                    close(i);
                for_ever();
            }
            _exit(0);
        }
        wait(NULL);
        for_ever();
    } else if (!strcmp(what, "closes")) {
        ready("closes");
        for (int i = 0; i < 3; i++)
            close(i);
        for_ever();
    } else if (!strcmp(what, "kills")) {
        ready("kills");
        kill(-1, SIGKILL);
        ready("and survives");
        getchar();
        kill(getppid(), SIGKILL);
        for_ever();
    } else if (!strcmp(what, "prints")) {
        for (;;)
            printf("encore et encore\n");
    } else if (!strcmp(what, "eats")) {
        ready("eats");
        for (;;) {
            size_t size = 1 << 20;
            char *block = malloc(size);
            if (block)
                memset(block, 1, size);
        }
    } else if (!strcmp(what, "shares")) {
        ready("shares");
        for (;;) {
            int id = shmget(IPC_PRIVATE, 1 << 24, 0600);
            void *block = id < 0 ? (void *)-1 : shmat(id, NULL, 0);
            if (block != (void *)-1) {
                memset(block, 1, 1 << 24);
                shmdt(block);
            }
        }
    } else if (!strcmp(what, "stops")) {
        ready("stops");
        if (fork() == 0)
            for_ever();
        raise(SIGSTOP);
        for_ever();
    } else if (!strcmp(what, "hides")) {
        mkdir("noir", 0700);
        close(open("noir/dedans", O_CREAT | O_WRONLY, 0600));
        chmod("noir", 0);
        chmod(".", 0);
        ready("hides");
        for_ever();
    } else if (!strcmp(what, "spins")) {
        ready("spins");
        for (;;)
            ;
    } else if (!strcmp(what, "leaves")) {
        leave_objects();
        ready("leaves");
        for_ever();
    } else if (!strcmp(what, "echoes")) { /* as a student's client: scanf, no fflush */
        int number;
        printf("Votre choix : ");
        while (scanf("%d", &number) == 1 && number)
            printf("%d\nVotre choix : ", number * 2);
        printf("Fin\n");
    } else if (!strcmp(what, "pid")) {
        printf("pid=%d\n", (int)getpid());
    } else if (!strcmp(what, "asks")) { /* the client of "answers" */
        struct { long type; int number; } message = {1, (int)getpid()};
        int queue = msgget(key, 0);
        if (msgsnd(queue, &message, sizeof message.number, 0) < 0 ||
            msgrcv(queue, &message, sizeof message.number, getpid(), 0) < 0)
            return 1;
        printf("reçu %d\n", message.number);
    } else if (!strcmp(what, "answers")) {
        struct { long type; int number; } message;
        int queue = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
        if (queue < 0)
            return 1;
        ready("answers");
        while (msgrcv(queue, &message, sizeof message.number, 1, 0) > 0) {
            message.type = message.number;
            msgsnd(queue, &message, sizeof message.number, 0);
        }
    } else {
        return 2;
    }
    return 0;
}
