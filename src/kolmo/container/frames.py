"""Whole frames, forward: `FrameWriter` and its mirror `FrameReader`.

The writer turns finished blocks into the frame's bytes; the reader walks from head to head and hands out
payloads, or passes over them. What it is not: it codes nothing, and the reader cannot compare a frame's
content with its digest, since it never sees the content: that is the caller's part (see `codec.frames`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kolmo.container.structures import INDEX_KIND, MAGIC, BlockHead, Footer, Header
from kolmo.container.wire import DIGEST_SIZE, REMEDY, Reader, new_digest
from kolmo.errors import CorruptError, TruncatedError


class FrameWriter:
    """Makes one frame: `add` every block in order, then `finish`; both return bytes to write.

    Header and first block are held back until it is known whether that block stays the only one (the short
    form).
    """

    def __init__(self, header: Header) -> None:
        self._held = header.to_bytes()
        self._header_size = len(self._held)
        self._digest = new_digest()
        self._blocks: list[tuple[int, int]] = []
        self._first: tuple[BlockHead, bytes] | None = None

    def add(self, head: BlockHead, payload: bytes, raw: bytes) -> bytes:
        """Append a block whose content is `raw`."""
        self._digest.update(raw)
        self._blocks.append((head.raw_size, head.block_size))
        if len(self._blocks) == 1:
            self._first = head, payload
            return b""
        return self._release(sole=False) + head.to_bytes() + payload

    def flush(self) -> bytes:
        """What is held back of the blocks so far; nothing where there are none."""
        return self._release(sole=False) if self._blocks else b""

    def finish(self) -> bytes:
        """The rest of the frame: the only block in the short form, or the footer."""
        if len(self._blocks) == 1 and self._first is not None:
            return self._release(sole=True)
        footer = Footer(tuple(self._blocks), self._header_size, self._digest.digest())
        return self._release(sole=False) + footer.to_bytes()

    def _release(self, *, sole: bool) -> bytes:
        held, self._held = self._held, b""
        if self._first is not None:
            head, payload = self._first
            held += replace(head, sole=sole).to_bytes() + payload
            self._first = None
        return held


class FrameReader:
    """Reads one frame: the header at once, then `next_head` and `payload` or `skip` in turn, until None.

    Attributes:
        header: the frame's header.
        header_size: its bytes, magic to CRC.
        offset: where the frame starts in the input.
        blocks: (raw size, block size) of the blocks whose heads were read.
        digest: the content's digest, known at the frame's end (for the short form it is the block's).
        has_footer: False for the short form.
    """

    def __init__(self, reader: Reader) -> None:
        self.offset = reader.offset
        self.header = Header.read(reader)
        self.header_size = reader.offset - self.offset
        self.blocks: list[tuple[int, int]] = []
        self.digest = b""
        self.has_footer = True
        self._reader = reader

    def next_head(self) -> BlockHead | None:
        """The next block's head, or None at the frame's end.

        Raises:
            CorruptError: damage in the head, or a footer that is not what the heads say.
        """
        reader = self._reader
        if not self.has_footer:
            return None
        if reader.peek(1) == bytes([INDEX_KIND]):
            self._read_footer()
            return None
        number = len(self.blocks) + 1
        at = reader.offset
        head = BlockHead.read(reader, self.header.block_limit, f"block {number}")
        if head.sole:
            if number > 1:
                raise reader.corrupt(f"block {number} says that it is the only one", at)
            self.has_footer = False
            self.digest = head.digest
        self.blocks.append((head.raw_size, head.block_size))
        return head

    def payload(self, head: BlockHead) -> bytes:
        """The payload that follows `head`."""
        return self._reader.take(head.payload_size, f"block {len(self.blocks)}")

    def skip(self, head: BlockHead) -> None:
        """Pass over the payload that follows `head`."""
        self._reader.skip(head.payload_size, f"block {len(self.blocks)}")

    def footer_size(self) -> int:
        """Bytes of the footer that belongs to the blocks read so far."""
        return len(Footer(tuple(self.blocks), self.header_size, bytes(DIGEST_SIZE)).to_bytes())

    def _read_footer(self) -> None:
        """The heads determine the footer's size, so that a footer cannot claim any memory."""
        at = self._reader.offset
        data = self._reader.take(self.footer_size(), "the index")
        footer = Footer.parse(data, self._reader.name, at)
        if footer.blocks != tuple(self.blocks) or footer.header_size != self.header_size:
            raise self._reader.corrupt("the index disagrees with the blocks", at)
        self.digest = footer.digest


def read_frames(reader: Reader) -> Iterator[FrameReader]:
    """The frames of an input, in order; each must be read to its end before the next is asked for.

    Zero bytes after a frame are padding, as in files of gzip and xz.

    Raises:
        TruncatedError: the input is empty.
        CorruptError: something that is not a frame follows a frame.
    """
    first = reader.offset
    while ahead := reader.peek(len(MAGIC)):
        at = reader.offset
        if at > first and ahead[:1] == b"\0":
            reader.skip_zeros()
            continue
        if at > first and ahead != MAGIC[: len(ahead)]:
            raise CorruptError(
                f"{reader.name}: damaged: bytes that are not a frame follow the last frame, at byte {at}; "
                f"{REMEDY}, or cut it there",
                at,
            )
        yield FrameReader(reader)
    if reader.offset == first:
        raise TruncatedError(f"{reader.name}: empty, not a .kmo file, at byte {first}; {REMEDY}", first)
