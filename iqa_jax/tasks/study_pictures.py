"""The image files of a study: the manifest's bytes where a browser shows them, PNG otherwise."""

from pathlib import Path

from iqa_jax.data import records, tables
from iqa_jax.data.store import ImageStore
from iqa_jax.images import io
from iqa_jax.runtime import artifacts

# First bytes of what browsers decode without loss beyond the file's own.
_SHOWN = {
    b'\x89PNG\r\n\x1a\n': ('png', 'image/png'),
    b'\xff\xd8\xff': ('jpg', 'image/jpeg'),
    b'BM': ('bmp', 'image/bmp'),
    b'GIF8': ('gif', 'image/gif'),
    b'RIFF': ('webp', 'image/webp'),
}


def prepare(
    found: dict[str, tables.Table], places: list[tuple[str, int]], folder: Path
) -> list[dict]:
    """Writes the image of each (label, row) below `folder`; the rows of the table images.

    Files are copied byte for byte, recipes and formats that browsers do not show become PNG of the
    same pixels.

    Raises:
      images.io.ImageError: an image is missing, damaged or not the one of the manifest.
    """
    stores = {label: ImageStore(columns) for label, columns in found.items()}
    images = []
    for number, (label, row) in enumerate(places):
        pixels = stores[label].load([row])[0]  # verifies the digest too
        file = found[label]['file'][row]
        data = records.read(file) if file else b''
        suffix, media = next((form for first, form in _SHOWN.items() if data.startswith(first)),
                             ('', ''))  # fmt: skip
        if not suffix:
            data, (suffix, media) = io.encode_png(pixels), ('png', 'image/png')
        name = f'{number:06d}.{suffix}'
        artifacts.write(folder / name, data)
        images.append(
            {
                'label': label,
                'image_id': found[label]['image_id'][row],
                'file': name,
                'media': media,
                'sha256': io.sha256(data),
                'height': int(pixels.shape[0]),
                'width': int(pixels.shape[1]),
            }
        )
    return images
