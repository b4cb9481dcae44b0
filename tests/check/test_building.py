"""What a folder needs to be linked is found out from what it includes, wherever it does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spectacles.lab.dossier import building

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")


@pytest.mark.skipif(not Path("/usr/include/crypt.h").exists(), reason="no crypt.h here")
def test_a_library_that_only_a_header_of_theirs_includes(tmp_path: Path) -> None:
    """-lcrypt, as their own header has <crypt.h>. (Seen to fail: with the headers left unread.)"""
    folder, into = tmp_path / "banque", tmp_path / "bâti"
    folder.mkdir()
    into.mkdir()
    (folder / "banque.h").write_text("#include <crypt.h>\n#include <stdio.h>\n")
    (folder / "serveur.c").write_text('#include "banque.h"\nint main(void) { return puts(crypt("a", "ab")) < 0; }\n')
    assert [one.path for one in building.build(folder, into).programs] == ["serveur"]
