/* Whatever a hostile program can put into a System V queue.
 *
 *   hostile KEY SEED COUNT wild PID...             any types, sizes and PIDs, the PIDs given among them; never waits
 *   hostile KEY SEED COUNT same TYPE SIZE [PID]    one message again and again, in the name of PID (its own: 0); waits
 *   hostile KEY SEED COUNT spin TYPE SIZE [PID]    the same, but never waits
 *   hostile KEY SEED COUNT fill TYPE SIZE [PID]    the same, until nothing more fits; then it prints and waits for a signal
 *
 * COUNT 0: until killed. It prints how many messages were accepted, ends when the queue is gone, and reads no reply. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <unistd.h>

static struct {
    long type;
    char body[65536];
} message;

static uint64_t state;

static uint64_t draw(uint64_t below) { /* xorshift64*: the same numbers from the same seed everywhere */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * 0x2545F4914F6CDD1DULL >> 16) % below;
}

static int number(int n, char **pids) {
    static const int odd[] = {INT_MIN, -1, 0, 1, 2, 4194304, INT_MAX};
    return n && draw(2) ? atoi(pids[draw((uint64_t)n)]) : odd[draw(sizeof odd / sizeof *odd)];
}

static size_t wild(int n, char **pids) {
    static const int sizes[] = {0, 1, 4, 7, 8, 8, 8, 9, 12, 15, 16, 16, 16, 17, 728, 2048, 2049, 4096, 8191, 8192};
    int words[4];
    for (int i = 0; i < 4; i++)
        words[i] = number(i == 0 ? n : 0, pids);
    memcpy(message.body, words, sizeof words);
    switch (draw(4)) {
    case 0:
        message.type = 1;
        break;
    case 1:
        message.type = 2;
        break;
    case 2:
        message.type = 4194305 + (long)draw(40000); /* above every PID: a forged reply is no fault of the server */
        break;
    default:
        message.type = number(n, pids);
        if (message.type <= 0)
            message.type = LONG_MAX - (long)draw(3);
    }
    return (size_t)sizes[draw(sizeof sizes / sizeof *sizes)];
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 2;
    int queue = msgget((key_t)strtoul(argv[1], NULL, 0), 0);
    state = strtoull(argv[2], NULL, 10) * 2 + 1;
    long count = atol(argv[3]), sent = 0;
    const char *how = argv[4];
    int random = strcmp(how, "wild") == 0, waits = strcmp(how, "same") == 0, fills = strcmp(how, "fill") == 0;
    if (queue < 0)
        return 3;
    size_t size = 0;
    if (!random) {
        int words[4] = {argc > 7 && atoi(argv[7]) ? atoi(argv[7]) : getpid(), 0, 1, 0};
        message.type = atol(argv[5]);
        size = (size_t)atol(argv[6]);
        memcpy(message.body, words, sizeof words);
    }
    while (count == 0 || sent < count) {
        if (random)
            size = wild(argc - 5, argv + 5);
        if (msgsnd(queue, &message, size, waits ? 0 : IPC_NOWAIT) == 0)
            sent++;
        else if (errno == EIDRM || (errno == EINVAL && msgctl(queue, IPC_STAT, &(struct msqid_ds){0}) < 0))
            break;
        else if (errno == EAGAIN && fills)
            break;
        else if (errno == EAGAIN)
            sched_yield();
        else if (errno != EINVAL)
            return 4;
    }
    printf("%ld\n", sent);
    fflush(stdout);
    if (fills)
        pause();
    return 0;
}
