"""What a program printed, however much it was: the beginning, the end, and a count of what lay between."""

from __future__ import annotations

HEAD = 128 * 1024  # bytes kept from the beginning
TAIL = 128 * 1024  # bytes kept from the end


class Transcript:
    """Bytes as they came. Never holds more than about head + 2 * tail bytes; not safe between threads."""

    def __init__(self, head: int = HEAD, tail: int = TAIL) -> None:
        self._limits = head, tail
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0  # bytes ever added

    def add(self, data: bytes) -> None:
        """Append what was printed next."""
        self.total += len(data)
        head, tail = self._limits
        room = head - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * tail:  # seldom, so that a flood costs no copy each time
            del self._tail[: len(self._tail) - tail]

    @property
    def skipped(self) -> int:
        """Bytes that are not kept."""
        return self.total - len(self._head) - min(len(self._tail), self._limits[1])

    def parts(self) -> tuple[bytes, int, bytes]:
        """Return the beginning, the number of bytes that are not kept, and the end."""
        return bytes(self._head), self.skipped, bytes(self._tail[-self._limits[1] :])

    def text(self) -> str:
        """Return all that is kept as text, with a line in the place of what is not; CR LF of a terminal as one."""
        head, skipped, tail = self.parts()
        between = f"\n[... {skipped} octets ...]\n".encode() if skipped else b""
        return (head + between + tail).decode("utf-8", "replace").replace("\r\n", "\n")
