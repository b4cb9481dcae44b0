#!/bin/bash
# A cloakroom in shell: a FIFO for requests, one of each client's for answers; a single reader needs no lock. Sound.
exec 9>vestiaire.verrou
flock -n 9 || { echo "Le vestiaire est déjà ouvert." >&2; exit 1; }
declare -A libres=([hall]=40 [balcon]=9 [cave]=22)
rm -f demandes reponse.*
mkfifo demandes
trap 'rm -f demandes reponse.*; echo "Vestiaire fermé"; exit 0' INT TERM
trap '' PIPE
exec 3<>demandes
echo "Vestiaire ouvert"

repondre() {  # un client parti ne retient personne
    [[ -p $1 ]] || return
    ( timeout 5 bash -c 'printf "%s\n" "$2" >"$1"' _ "$1" "$2" 9>&- 3<&- & ) 2>/dev/null
}

while true; do
    IFS= read -r -n 200 ligne <&3 || continue
    read -r tube verbe salle nombre reste <<<"$ligne"
    [[ $tube =~ ^reponse\.[0-9]+$ ]] || continue
    if [[ $verbe == voir ]]; then
        texte=
        for nom in hall balcon cave; do texte+="$nom : ${libres[$nom]} cintres libres;"; done
        repondre "$tube" "$texte"
    elif [[ $verbe == poser && $nombre =~ ^[1-9][0-9]{0,5}$ && -z $reste && -n $salle && -n ${libres[$salle]:-} ]]; then
        if ((nombre <= libres[$salle])); then
            libres[$salle]=$((libres[$salle] - nombre))
            repondre "$tube" "manteaux acceptés"
        else
            repondre "$tube" "plus assez de cintres"
        fi
    else
        repondre "$tube" "demande incomprise"
    fi
done
