/* Two threads serve one request each from a table in plain memory. The race is between the answer that is written to
   the log and the subtraction. With -DSOUND a mutex is held over both. Exit code: 1 if more was sold than there was. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

static int restantes = 1;
static int journal;
static pthread_mutex_t verrou = PTHREAD_MUTEX_INITIALIZER;

static void noter(const char *ligne) {
    write(journal, ligne, strlen(ligne));
}

static void *servir(void *nom) {
    char ligne[40];
#ifdef SOUND
    pthread_mutex_lock(&verrou);
#endif
    if (restantes > 0) {
        snprintf(ligne, sizeof ligne, "%s : accepté\n", (char *)nom);
        noter(ligne);
        restantes--;
    } else
        noter("refusé\n");
#ifdef SOUND
    pthread_mutex_unlock(&verrou);
#endif
    return NULL;
}

int main(void) {
    pthread_t fils[2];
    journal = open("journal.txt", O_WRONLY | O_CREAT | O_APPEND, 0600);
    pthread_create(&fils[0], NULL, servir, "Alice");
    pthread_create(&fils[1], NULL, servir, "Bob");
    pthread_join(fils[0], NULL);
    pthread_join(fils[1], NULL);
    printf("restantes : %d\n", restantes);
    return restantes < 0;
}
