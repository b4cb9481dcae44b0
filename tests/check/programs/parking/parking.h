/* What the barrier and the cars say to each other: a queue for the barrier, and one for each car. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <unistd.h>

#define LEVELS 3
enum { ASK = 'A', PARK = 'P', ANSWER = 7 };

struct demand {
    long type;
    short level, cars;
    int queue, pid;
};

struct ticket {
    long type;
    int granted, free;
};

#define LENGTH(what) (sizeof(struct what) - sizeof(long))

static key_t barrier(void) {
    key_t key = ftok(".", 'B');
    if (key == -1) {
        perror("ftok");
        exit(1);
    }
    return key;
}
