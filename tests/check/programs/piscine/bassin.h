/* A swimming pool: one FIFO of demands, one FIFO for each bather's answer, lanes in a file under record locks. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEMANDS "demandes"
#define LANES 4

struct demand { /* 16 bytes, far below PIPE_BUF: written and read whole */
    pid_t bather;
    int lane, wanted; /* wanted: 0 to ask */
    unsigned mark;    /* comes back in the answer */
};

struct answer {
    unsigned mark;
    int ok, left;
};

static inline void fifo_of(pid_t bather, char *name, size_t size) { snprintf(name, size, "serviette.%d", bather); }
