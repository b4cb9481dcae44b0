/* Two clerks keep what is left in a file: read it, subtract, write it back. The race is between the read and the write:
   one sale is lost. With -DSOUND the file is locked meanwhile. Exit code: 1 if a sale was lost. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *fichier = "places.txt";

static int lire(void) {
    char texte[16] = "";
    int fd = open(fichier, O_RDONLY);
    read(fd, texte, sizeof texte - 1);
    close(fd);
    return atoi(texte);
}

static void ecrire(int places) {
    char texte[16];
    int fd = open(fichier, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int taille = snprintf(texte, sizeof texte, "%d\n", places);
    write(fd, texte, taille);
    close(fd);
}

static void vendre(int places) {
#ifdef SOUND
    int verrou = open("verrou", O_RDWR | O_CREAT, 0600);
    flock(verrou, LOCK_EX);
#endif
    int restantes = lire();
    if (restantes >= places)
        ecrire(restantes - places);
#ifdef SOUND
    flock(verrou, LOCK_UN);
    close(verrou);
#endif
}

int main(void) {
    ecrire(10);
    for (int guichet = 1; guichet <= 2; guichet++)
        if (fork() == 0) {
            vendre(guichet);
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    printf("restantes : %d\n", lire());
    return lire() != 7;
}
