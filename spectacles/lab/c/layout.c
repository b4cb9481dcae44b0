/* Prints, as one JSON object, where the compiler put every field: layout [PATH for ftok] */
#include "spectacles.h"

static const char *comma;

/* For a queue message, "body" and "offset" leave the leading long mtype out. */
static void begin(const char *before, const char *name, size_t size, size_t head) {
    printf("%s\"%s\":{\"size\":%zu,\"body\":%zu,\"fields\":{", before, name, size, size - head);
    comma = "";
}

static void field(const char *name, size_t offset, size_t size) {
    printf("%s\"%s\":{\"offset\":%zu,\"size\":%zu}", comma, name, offset, size);
    comma = ",";
}

#define F(type, name, head) field(#name, offsetof(type, name) - (head), sizeof(((type *)0)->name))
#define BEGIN(before, type, head) begin(before, #type, sizeof(type), head)
#define END() fputs("}}", stdout)
#define MESSAGE(type) BEGIN(",", type, sizeof(long)), F(type, pid, sizeof(long))
#define SEATS(type, head) F(type, spectacle, head), F(type, nb_places, head)

int main(int argc, char **argv) {
    printf("{\"types\":{\"int\":%zu,\"long\":%zu,\"bool\":%zu,\"pid_t\":%zu},\"structs\":{", sizeof(int),
           sizeof(long), sizeof(bool), sizeof(pid_t));
    BEGIN("", Spectacle, 0), F(Spectacle, id, 0), F(Spectacle, nom, 0), F(Spectacle, date, 0);
    F(Spectacle, places, 0), END();
    MESSAGE(Request_list), END();
    MESSAGE(Response_list), F(Response_list, spectacles, sizeof(long)), END();
    MESSAGE(Request_reservation), SEATS(Request_reservation, sizeof(long)), END();
    MESSAGE(Response_reservation), F(Response_reservation, ack, sizeof(long)), END();
    MESSAGE(Request), SEATS(Request, sizeof(long)), END();
    BEGIN(",", Tcp_request, 0), F(Tcp_request, type, 0), SEATS(Tcp_request, 0), END();
    BEGIN(",", Tcp_response_list, 0), F(Tcp_response_list, spectacles, 0), END();
    BEGIN(",", Tcp_response_reservation, 0), F(Tcp_response_reservation, ack, 0), END();
    printf("},\"table\":%zu,\"max_spectacle\":%d,\"type_list\":%d,\"type_reserv\":%d",
           MAX_SPECTACLE * sizeof(Spectacle), MAX_SPECTACLE, TYPE_LIST, TYPE_RESERV);
    if (argc > 1) {
        key_t key = ftok(argv[1], FTOK_PROJ);
        if (key == -1)
            fail("%s", argv[1]);
        printf(",\"ftok\":%d", key);
    }
    puts("}");
    return 0;
}
