#ifndef TABLEAU_H
#define TABLEAU_H
#include <stdint.h>
#include <sys/types.h>
#ifdef SANS_UNDO
#undef SEM_UNDO
#define SEM_UNDO 0
#endif
#define CLE 0x51a7e
#define GARES 4
#define CASES 16
enum { LIBRE, PRISE, DEMANDEE, REPONDUE };
struct caisse { volatile int32_t etat; pid_t client; int32_t gare, places, reponse, reste; };
struct tableau { volatile pid_t serveur; int32_t reste[GARES]; struct caisse cases[CASES]; };
enum { VERROU, SONNETTE, PRETE }; /* semaphores: the table, work for the server, then one bell per slot */
#endif
