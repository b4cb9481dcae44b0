#!/bin/bash
tube=reponse.$$
trap 'rm -f "$tube"' EXIT
trap 'exit 130' INT TERM
mkfifo "$tube" || exit 1
demander() {
    if flock -n vestiaire.verrou true; then echo "Le vestiaire est fermé."; exit 1; fi
    exec 4<>"$tube"
    printf '%s %s\n' "$tube" "$1" >demandes
    if IFS= read -r -t 20 texte <&4; then tr ';' '\n' <<<"$texte"; else echo "Pas de réponse."; exit 1; fi
    exec 4<&-
}
while true; do
    printf '\n1) Voir les cintres\n2) Réserver des cintres\n3) Quitter\nVotre choix : '
    IFS= read -r choix || exit 0
    case $choix in
    1) demander voir ;;
    2)
        printf 'Nom de la salle : '
        IFS= read -r salle || exit 0
        printf 'Combien de manteaux ? '
        IFS= read -r nombre || exit 0
        demander "poser ${salle:0:20} ${nombre:0:20}"
        ;;
    3) exit 0 ;;
    esac
done
