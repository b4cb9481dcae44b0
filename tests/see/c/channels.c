/* Many messages, no two alike, through one channel, by its first argument; how many is the second. Children send and
 * receive at the same time; reads are of sizes of chance, so that they join and split what was written. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <mqueue.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    long type;
    char text[40];
} Message;

static int count, queue, ends[2];
static unsigned chance = 1;

static int some(int most) {
    chance = chance * 1103515245 + 12345;
    return 1 + (chance >> 16) % most;
}

static pid_t child(void (*work)(int), int number) {
    pid_t pid = fork();
    if (pid)
        return pid;
    chance = 1000 + number;
    work(number);
    _exit(0);
}

/* A System V queue: three senders with a type each; one receiver takes types up to 3, the lowest first, one takes any. */
static void send_messages(int number) {
    Message message = {number, ""};
    for (int i = 0; i < count / 3; i++) {
        int size = 20 + some(20);
        memset(message.text, '.', sizeof message.text);
        sprintf(message.text, "%d-%d", number, i);
        msgsnd(queue, &message, size, 0);
    }
}

static void take_messages(int number) {
    Message message;
    do
        msgrcv(queue, &message, sizeof message.text, number == 1 ? -3 : 0, 0);
    while (strcmp(message.text, "end"));
}

static void through_a_queue(void) {
    Message end = {3, "end"};
    queue = msgget(IPC_PRIVATE, 0600);
    child(take_messages, 1);
    child(take_messages, 2);
    pid_t senders[3];
    for (int i = 0; i < 3; i++)
        senders[i] = child(send_messages, i + 1);
    for (int i = 0; i < 3; i++)
        waitpid(senders[i], NULL, 0);
    msgsnd(queue, &end, 10, 0);
    msgsnd(queue, &end, 10, 0);
    while (wait(NULL) > 0)
        ;
    msgctl(queue, IPC_RMID, NULL);
}

/* A pipe or FIFO: writers of records of 16 to 40 bytes, readers of 1 to 100. */
static int to, from;

static void write_records(int number) {
    char record[64];
    close(from);
    for (int i = 0; i < count / 2; i++) {
        int size = 15 + some(25);
        memset(record, 'a' + number, sizeof record);
        int used = sprintf(record, "<%d:%d", number, i);
        record[used] = '=';
        record[size - 1] = '>';
        write(to, record, size);
    }
}

static void read_records(int number) {
    char record[100];
    (void)number;
    close(to);
    while (read(from, record, some(100)) > 0)
        ;
}

static void through_a_stream(int named, int readers) {
    if (named) {
        mkfifo("tube", 0600);
        to = open("tube", O_RDWR);
        from = open("tube", O_RDONLY);
    } else {
        if (pipe(ends) < 0)
            exit(1);
        from = ends[0];
        to = ends[1];
    }
    for (int i = 0; i < readers; i++)
        child(read_records, i);
    child(write_records, 1);
    child(write_records, 2);
    close(to);
    close(from);
    while (wait(NULL) > 0)
        ;
}

/* A TCP connection: both ends write records and read what the other wrote. */
static void talk(int fd, int number) {
    char record[64], got[100];
    int answered = 0, total = 0;
    for (int i = 0; i < count / 2; i++) {
        int size = 15 + some(25);
        memset(record, 'a' + number, sizeof record);
        sprintf(record, "<%d:%d", number, i);
        write(fd, record, size);
        total += size;
        if (some(3) == 1)
            answered += read(fd, got, some(100)) > 0;
    }
    shutdown(fd, SHUT_WR);
    while (read(fd, got, some(100)) > 0)
        ;
}

static void connect_and_talk(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = port, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    connect(fd, (struct sockaddr *)&address, sizeof address);
    chance = 7;
    talk(fd, 1);
}

static void through_a_connection(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&address, sizeof address);
    listen(listener, 5);
    getsockname(listener, (struct sockaddr *)&address, &length);
    child(connect_and_talk, address.sin_port);
    talk(accept(listener, NULL, NULL), 2);
    wait(NULL);
}

/* A POSIX queue: two senders, three priorities, two receivers. */
static mqd_t box;

static void post_letters(int number) {
    char text[40];
    for (int i = 0; i < count / 2; i++) {
        memset(text, '.', sizeof text);
        sprintf(text, "%d-%d", number, i);
        mq_send(box, text, 20 + some(20), i % 3);
    }
}

static void open_letters(int number) {
    char text[40];
    unsigned priority;
    (void)number;
    do
        mq_receive(box, text, sizeof text, &priority);
    while (strcmp(text, "end"));
}

static void through_a_posix_queue(void) {
    struct mq_attr how = {.mq_maxmsg = 10, .mq_msgsize = 40};
    pid_t senders[2];
    box = mq_open("/boite", O_CREAT | O_RDWR, 0600, &how);
    child(open_letters, 0);
    child(open_letters, 1);
    for (int i = 0; i < 2; i++)
        senders[i] = child(post_letters, i);
    for (int i = 0; i < 2; i++)
        waitpid(senders[i], NULL, 0);
    mq_send(box, "end", 10, 0);
    mq_send(box, "end", 10, 0);
    while (wait(NULL) > 0)
        ;
    mq_unlink("/boite");
}

/* Signals by semaphore, POSIX or System V: one posts, two wait. */
static sem_t *bell;
static int bells = -1;

static void wait_for_bell(int number) {
    struct sembuf down = {0, -1, 0};
    (void)number;
    for (int i = 0; i < count / 2; i++)
        if (bells < 0)
            sem_wait(bell);
        else
            semop(bells, &down, 1);
}

static void through_a_semaphore(int system_v) {
    struct sembuf up = {0, 1, 0};
    if (system_v)
        semctl(bells = semget(IPC_PRIVATE, 1, 0600), 0, SETVAL, 0);
    else
        bell = sem_open("/cloche", O_CREAT, 0600, 0);
    child(wait_for_bell, 0);
    child(wait_for_bell, 1);
    for (int i = 0; i < count / 2 * 2; i++)
        if (system_v)
            semop(bells, &up, 1);
        else
            sem_post(bell);
    while (wait(NULL) > 0)
        ;
    if (system_v)
        semctl(bells, 0, IPC_RMID);
    else
        sem_unlink("/cloche");
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    count = argc > 2 ? atoi(argv[2]) : 10;
    if (!strcmp(what, "queue"))
        through_a_queue();
    else if (!strcmp(what, "fifo"))
        through_a_stream(1, 2);
    else if (!strcmp(what, "pipe"))
        through_a_stream(0, 1);
    else if (!strcmp(what, "connection"))
        through_a_connection();
    else if (!strcmp(what, "posix"))
        through_a_posix_queue();
    else if (!strcmp(what, "semaphore"))
        through_a_semaphore(0);
    else if (!strcmp(what, "set"))
        through_a_semaphore(1);
    else
        return 2;
    return 0;
}
