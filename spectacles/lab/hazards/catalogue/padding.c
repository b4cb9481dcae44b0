/* Question 5: two programs whose compilers do not lay out a struct alike. */
#include "hazard.h"

typedef struct { char kind; int places; } Aligned; /* 8 bytes, three of them a hole */
typedef struct __attribute__((packed)) { char kind; int places; } Packed; /* 5 bytes: the other compiler's */

static void server(void) {
    Aligned answer;
    mkfifo("reponses", 0600);
    int answers = must(open("reponses", O_RDWR), "reponses");
    memset(&answer, 0, sizeof answer);
    answer.kind = 'R';
    answer.places = 120;
#ifdef BROKEN
    write(answers, &answer, sizeof answer); /* as it lies in memory */
#else
    char wire[sizeof answer.kind + sizeof answer.places];
    wire[0] = answer.kind;
    memcpy(wire + 1, &answer.places, sizeof answer.places);
    write(answers, wire, sizeof wire); /* field after field */
#endif
    pause();
}

static void client(void) {
    Packed answer;
    int answers = must(open("reponses", O_RDONLY), "reponses");
    window();
    if (read(answers, &answer, sizeof answer) == sizeof answer)
        say("%d places", answer.places);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "server"))
        client();
    else
        server();
    return 0;
}
