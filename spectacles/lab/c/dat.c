/* Reads and writes spectacles.dat through the C structure: dat show FILE | dat write FILE [PLACES] */
#include "spectacles.h"

int main(int argc, char **argv) {
    Spectacle table[MAX_SPECTACLE];
    if (argc == 3 && strcmp(argv[1], "show") == 0) {
        if (!load_table(argv[2], table))
            fail("%s", argv[2]);
        for (int i = 0; i < MAX_SPECTACLE; i++)
            if (table[i].id != 0) {
                put_json_show(i, &table[i]);
                putchar('\n');
            }
        return 0;
    }
    if ((argc == 3 || argc == 4) && strcmp(argv[1], "write") == 0) {
        sample_table(table);
        for (int i = 0; argc == 4 && i < MAX_SPECTACLE; i++)
            if (table[i].id != 0)
                table[i].places = parse_int(argv[3]);
        if (!save_table(argv[2], table))
            fail("%s", argv[2]);
        return 0;
    }
    refuse("dat show FICHIER | dat write FICHIER [PLACES]");
}
