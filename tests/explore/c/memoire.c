/* Two clerks sell from one table in shared memory. The race is between two instructions: the test and the subtraction.
   With -DSOUND both are under a semaphore. Exit code: 1 if more was sold than there was. */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    int restantes;
    int vendues;
} Spectacle;

static Spectacle *spectacle;
static sem_t *verrou;

static int reserver(int places) {
    int accepte = 0;
#ifdef SOUND
    sem_wait(verrou);
#endif
    if (spectacle->restantes >= places) {
        spectacle->restantes -= places;
        spectacle->vendues += places;
        accepte = 1;
    }
#ifdef SOUND
    sem_post(verrou);
#endif
    return accepte;
}

int main(void) {
    spectacle = mmap(NULL, sizeof *spectacle, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    spectacle->restantes = 3;
    verrou = sem_open("/guichet", O_CREAT, 0600, 1);
    sem_unlink("/guichet");
    for (int guichet = 1; guichet <= 2; guichet++)
        if (fork() == 0) {
            printf("guichet %d : %s\n", guichet, reserver(2) ? "accepté" : "refusé");
            fflush(stdout);
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    printf("vendues : %d, restantes : %d\n", spectacle->vendues, spectacle->restantes);
    return spectacle->restantes < 0 || spectacle->vendues > 3;
}
