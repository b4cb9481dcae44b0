#include <stdint.h>
#define GUICHET "/poste-guichet"
#define LOTS 3
struct demande { char boite[24]; uint32_t numero; int32_t quoi, lot, combien; }; /* quoi 1 : voir, 2 : prendre */
struct reponse { uint32_t numero; int32_t verdict, reste; };
