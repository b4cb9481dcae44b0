#define PERCORSO "treno.sock"
#define TRENI 4
#include <stdint.h>
typedef struct { int32_t verbo, treno, posti; } richiesta; /* verbo 1: elenco, 2: prenota */
typedef struct { int32_t esito; int32_t liberi[TRENI]; } risposta; /* esito 0 bene, 1 pieno, 2 errata */
