/* Question 2 as a student would write it: fixed keys, a child per request, nothing flushed, no result looked at. */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <unistd.h>

typedef struct {
    int id;
    char nom[50];
    char date[11];
    int places;
} Spectacle;
typedef struct {
    long type;
    int pid, spectacle, nombre;
} Demande;
typedef struct {
    long type;
    int pid, ok;
} Reponse;

#define CORPS(x) (sizeof x - sizeof(long))

#ifdef SERVEUR
int main() {
    int file = msgget(1234, IPC_CREAT | 0666);
    Spectacle *table = shmat(shmget(5678, 10 * sizeof(Spectacle), IPC_CREAT | 0666), 0, 0);
    sem_t *verrou = sem_open("/semaphore", O_CREAT, 0666, 1);
    table[3].id = 4;
    strcpy(table[3].nom, "Hamlet");
    table[3].places = 10;
    printf("serveur pret\n");
    for (;;) {
        Demande demande;
        Reponse reponse;
        msgrcv(file, &demande, CORPS(demande), 2, 0);
        if (fork() == 0) {
            sem_wait(verrou);
            reponse.ok = table[demande.spectacle].places >= demande.nombre;
            if (reponse.ok)
                table[demande.spectacle].places -= demande.nombre;
            sem_post(verrou);
            reponse.type = demande.pid;
            reponse.pid = getpid();
            msgsnd(file, &reponse, CORPS(reponse), 0);
            exit(0);
        }
    }
}
#else
int main() {
    int file = msgget(1234, IPC_CREAT | 0666);
    Demande demande = {2, getpid()};
    Reponse reponse;
    printf("Spectacle ? ");
    scanf("%d", &demande.spectacle);
    printf("Places ? ");
    scanf("%d", &demande.nombre);
    msgsnd(file, &demande, CORPS(demande), 0);
    msgrcv(file, &reponse, CORPS(reponse), getpid(), 0);
    printf(reponse.ok ? "Reserve\n" : "Refuse\n");
    return 0;
}
#endif
