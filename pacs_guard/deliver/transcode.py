"""Lossless transcoding of an instance that its destination refuses as it is."""

from __future__ import annotations

import io
import threading
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import decompress
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from pacs_guard.confined import ConfinedProcess, Limits, read_exactly, read_message, serve, write_message
from pacs_guard.deliver.contexts import FALLBACK_SYNTAXES, can_transcode
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.text import printable
from pacs_guard.errors import ConfinementError, PermanentDeliveryError
from pacs_guard.spool.store import StoredFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from pydicom.pixels.decoders.base import Decoder


_WORD_BYTES = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
LIMITS = Limits(memory_bytes=4 << 30, seconds=120.0)
"""What transcoding one instance may take."""
_LARGEST_MESSAGE = 1 << 16
_OF_THREAD = threading.local()
_LITTLE_ENDIAN = (*FALLBACK_SYNTAXES, DeflatedExplicitVRLittleEndian)


def transcode(spool: StoredFiles, instance: StoredInstance, target: str) -> bytes:
    """Return an instance's data set in another transfer syntax, with the same pixels and the same UIDs.

    Parameters
    ----------
    spool : StoredFiles
        Where it lies.
    instance : StoredInstance
        In an uncompressed or a lossless transfer syntax.
    target : str
        Explicit or Implicit VR Little Endian.

    Returns
    -------
    bytes
        The encoded data set, without file meta information.

    Raises
    ------
    PermanentDeliveryError
        If it may not or cannot be transcoded without loss.
    """
    source = instance.transfer_syntax_uid
    if target not in FALLBACK_SYNTAXES or not can_transcode(source):
        raise PermanentDeliveryError(
            f"instance {instance.id} is in {UID(source).name}, which is not transcoded to {UID(target).name}: "
            "only uncompressed and lossless syntaxes are, and only to uncompressed little endian"
        )
    request = {
        "root": str(spool.root),
        "instance": asdict(instance),
        "target": target,
    }
    try:
        return _asked(request)
    except ConfinementError as error:
        raise PermanentDeliveryError(
            f"instance {instance.id} cannot be transcoded from {UID(source).name} to {UID(target).name}: {error}"
        ) from error


def _asked(request: Mapping[str, Any]) -> bytes:
    """Have another process transcode: a codec in C that crashes must not stop all other deliveries."""
    process = getattr(_OF_THREAD, "process", None)
    if process is None:
        process = _OF_THREAD.process = ConfinedProcess(__name__, LIMITS)
    with process.question(request) as answers:
        message = read_message(answers, most=_LARGEST_MESSAGE)
        length = int(message.get("length", 0))
        if not 0 <= length <= LIMITS.memory_bytes:
            raise ConfinementError(f"an answer of {length} bytes; at most {LIMITS.memory_bytes} are read")
        data = read_exactly(answers, length)
    if "error" in message:
        raise ConfinementError(printable(str(message["error"])))
    return data


# in the other process


def _answer(request: dict[str, Any], answers: IO[bytes], limits: Limits) -> None:
    data, message = b"", {}
    try:
        values = request["instance"]
        instance = StoredInstance(**values | {"key": InstanceKey(**values["key"])})
        data = transcoded(StoredFiles(Path(request["root"])), instance, request["target"])
    except MemoryError:
        message = {"error": f"it takes more than {limits.memory_bytes} bytes of memory"}
    except Exception as error:  # noqa: BLE001  # decoders raise nearly anything on malformed input
        message = {"error": printable(str(error) or repr(error))}
    write_message(answers, message | {"length": len(data)})
    answers.write(data)


def transcoded(spool: StoredFiles, instance: StoredInstance, target: str) -> bytes:
    """Return an instance's data set in another transfer syntax; see `transcode`, which has this done.

    Raises
    ------
    Exception
        Nearly any, as decoders do.
    """
    source = instance.transfer_syntax_uid
    if source == DeflatedExplicitVRLittleEndian and target == ExplicitVRLittleEndian:
        with spool.open(instance) as file:
            return _inflated(file.read())
    with spool.content(instance) as content:
        return _re_encoded(content, source, target)


def _inflated(deflated: bytes) -> bytes:
    """Undo the deflation and nothing else; the result is Explicit VR Little Endian (PS3.5 A.5)."""
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    data = inflate.decompress(deflated)
    if not inflate.eof:
        raise ValueError("its deflated data set is cut short")
    return data


def _re_encoded(content: BinaryIO, source: str, target: str) -> bytes:
    ds = dcmread(content)
    if ds.file_meta.TransferSyntaxUID != source:
        raise ValueError(f"the file says {ds.file_meta.TransferSyntaxUID}, the queue says {source}")
    read_pixels = _stored_pixels if source in _LITTLE_ENDIAN else _decoded_pixels
    original = read_pixels(ds, source)
    if UID(source).is_encapsulated:
        # the colour space stays what the codec gives, so that no value is rounded
        decompress(ds, as_rgb=False, generate_instance_uid=False)
    elif source == ExplicitVRBigEndian:
        _swap_words(ds)
    encoded = _encoded(ds, target)
    if not np.array_equal(original, read_pixels(_parsed(encoded, target), target)):
        raise ValueError("the pixels differ after transcoding")
    return encoded


def _encoded(ds: Dataset, target: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = UID(target).is_implicit_VR
    buffer.is_little_endian = True
    write_dataset(buffer, ds)
    return buffer.getvalue()


def _parsed(encoded: bytes, syntax: str) -> Dataset:
    ds = read_dataset(io.BytesIO(encoded), UID(syntax).is_implicit_VR, is_little_endian=True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return ds


def _stored_pixels(ds: Dataset, _syntax: str) -> NDArray[Any]:
    """Pixels as they are encoded; enough where the encoding of words does not change, and asks for no decoder."""
    return np.frombuffer(b"".join(ds[keyword].value for keyword in _PIXELS if keyword in ds), np.uint8)


def _decoded_pixels(ds: Dataset, syntax: str) -> NDArray[Any]:
    """Return the pixels if two decoders agree on them, where there are two: one alone may smile at a broken stream."""
    if not any(keyword in ds for keyword in _PIXELS):
        return np.empty(0)
    decoder = get_decoder(UID(syntax))
    # pillow uses the same OpenJPEG as pylibjpeg, and knows fewer pixel formats
    plugins = [name for name in getattr(decoder, "available_plugins", ()) if name != "pillow"] or [""]
    first, *others = (_decoded(decoder, ds, name) for name in plugins[:2])
    if not all(np.array_equal(first, other) for other in others):
        raise ValueError(f"the decoders {' and '.join(plugins[:2])} disagree about the pixels")
    return first


def _decoded(decoder: Decoder, ds: Dataset, plugin: str) -> NDArray[Any]:
    options: Any = {"as_rgb": False}
    return decoder.as_array(ds, decoding_plugin=plugin, **options)[0]


def _swap_words(ds: Dataset) -> None:
    """Turn the bytes of words round, at every depth; pydicom swaps numbers but not streams of words."""
    for element in ds.iterall():
        width = _WORD_BYTES.get(element.VR)
        if width is not None and isinstance(element.value, bytes):
            element.value = np.frombuffer(element.value, f">u{width}").astype(f"<u{width}").tobytes()


if __name__ == "__main__":
    serve(_answer)
