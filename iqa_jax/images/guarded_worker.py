"""The child process of `guarded`: decodes what it is sent, within limits, until the parent ends."""

import math
import os
import resource
import socket
import struct
import threading
import time

from PIL import Image

from iqa_jax.images import io

READY, PIXELS, ERROR, MEMORY = b'R', b'P', b'E', b'M'
POLL_SECONDS = 0.5


def serve(descriptor: int, seconds: float, memory_mib: float, parent: float) -> None:
    """Answers requests on a socket: length <Q and bytes -> one of the answers.

    PIXELS, height and width <II, and the pixels; ERROR, length <I, and the sentence; or MEMORY.
    Begins with READY and the bytes <Q that a picture may take.
    """
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    Image.init()  # imports the plugins before the limits count
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    room = _limit_memory(int(memory_mib * 2**20))
    with socket.socket(fileno=descriptor) as connection, connection.makefile('rb') as requests:
        connection.sendall(READY + struct.pack('<Q', room))
        while len(head := requests.read(8)) == 8:
            _limit_time(seconds)
            connection.sendall(_answer(requests, struct.unpack('<Q', head)[0], connection))


def _answer(requests, size: int, connection: socket.socket) -> bytes:
    """The whole answer, or what follows the pixels, which are sent from where they are."""
    try:
        data = requests.read(size)
        pixels = io.decode(data)
    except io.ImageError as error:
        text = str(error).encode(errors='backslashreplace')[: 2**16]
        return ERROR + struct.pack('<I', len(text)) + text
    except MemoryError:
        return MEMORY
    connection.sendall(PIXELS + struct.pack('<II', *pixels.shape[:2]))
    connection.sendall(memoryview(pixels).cast('B'))
    return b''


def _limit_memory(size: int) -> int:
    """Limits the address space to `size` bytes beside what this process has; gives what is left.

    That is less where the limits that the process came with allow less.
    """
    try:
        with open('/proc/self/statm') as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # where there is no /proc, the time limits remain
        return size
    given = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit >= 0]
    limit = min([taken + size, *given])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return max(0, limit - taken)


def _limit_time(seconds: float) -> None:
    """Seconds of the processor from now on; the parent watches the clock."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(time.process_time() + seconds) + 1
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _end_with(parent: int) -> None:
    """Ends this process, in the middle of a picture too, when the parent has ended."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)
