"""The references of several databases: their pictures, hashes, and which of them show the same."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from iqa_jax.data import crops, hashes, manifest, tables
from iqa_jax.data.store import ImageStore
from iqa_jax.images import io

MATCHES = ('exact', 'perceptual', 'crop')


def references(databases: dict[str, tables.Table]) -> tables.Table:
    """One row per reference: image_id `DATABASE/REF_ID`, ref_id, database, file and sha256.

    The picture is the row whose image_id is the ref_id, or else the `ref_file` of any row; file is
    '' when the manifest names neither.

    Args:
      databases: name -> manifest rows.
    """
    rows: dict[str, list] = {k: [] for k in ('image_id', 'ref_id', 'database', 'file', 'sha256')}
    for database, columns in databases.items():
        found = {}
        for image_id, ref_id, *picture in zip(
            *(columns[k].tolist() for k in ('image_id', 'ref_id', 'file', 'sha256', 'ref_file')),
            columns['ref_sha256'].tolist(), strict=True,
        ):  # fmt: skip
            file, digest, ref_file, ref_digest = picture
            known = found.setdefault(ref_id, ('', ''))
            if image_id == ref_id and file:
                found[ref_id] = (file, digest)
            elif not known[0] and ref_file:
                found[ref_id] = (ref_file, ref_digest)
        for ref_id, (file, digest) in found.items():
            values = (f'{database}/{ref_id}', ref_id, database, file, digest)
            for key, value in zip(rows, values, strict=True):
                rows[key].append(value)
    columns = {k: np.array(v, object) for k, v in rows.items()}
    return manifest.complete(columns, 'the references')


def hashed(rows: tables.Table) -> tuple[tables.Table, list[dict]]:
    """Hashes of references that can be read, and a quarantine entry for each of the others.

    Args:
      rows: of `references`.

    Returns:
      ({'exact': SHA-256 of the pixels, 'perceptual': hexadecimal}, text [N]; without a picture
      '' and ''; {'file', 'reason'} of each of those).
    """
    store = ImageStore(rows)

    def both(row: int) -> tuple[str, str] | io.ImageError:
        try:
            image = store.load([row])[0]
        except io.ImageError as error:
            return error
        return hashes.exact(image), hashes.perceptual(image).astype('>u8').tobytes().hex()

    found, bad = {'exact': [], 'perceptual': []}, []
    with ThreadPoolExecutor(2) as pool:  # decoding and resizing release the GIL
        for row, values in enumerate(pool.map(both, range(len(store)))):
            if isinstance(values, io.ImageError):
                name = rows['file'][row] or rows['image_id'][row]
                bad.append({'file': name, 'reason': str(values)})
                values = ('', '')
            for key, value in zip(found, values, strict=True):
                found[key].append(value)
    return {k: np.array(v, object) for k, v in found.items()}, bad


def matches(
    rows: tables.Table, distance: int, correlation: float, crop_pairs: int
) -> tuple[list[tuple[int, int, str, float]], list[tuple[str, str]]]:
    """Pairs of references that show the same.

    Args:
      rows: of `references` with the columns of `hashed`.
      distance: largest number of differing bits of the perceptual hashes.
      correlation: least correlation of a crop.
      crop_pairs: two databases with more pairs of references are not searched for crops.

    Returns:
      ([(row, other row, one of MATCHES, differing bits or correlation)] in the order of the rows,
      each pair once with its strongest match, [pairs of databases not searched for crops]).
    """
    there = np.flatnonzero(rows['exact'] != '')
    found: dict[tuple[int, int], tuple[str, float]] = {}
    same: dict[str, int] = {}
    for row in there.tolist():
        first = same.setdefault(rows['exact'][row], row)
        if first != row:
            found[first, row] = ('exact', 0.0)
    words = bytes.fromhex(''.join(rows['perceptual'][there].tolist()))
    bits = np.frombuffer(words, '>u8').astype(np.uint64)
    near = hashes.near(bits.reshape(-1, hashes.VIEWS, hashes.WORDS), distance=distance)
    for i, j, value in zip(there[near[0]].tolist(), there[near[1]].tolist(), near[2], strict=True):
        if rows['exact'][i] != rows['exact'][j]:
            found[i, j] = ('perceptual', float(value))
    names = sorted(set(rows['database'].tolist()))
    inside = {name: there[rows['database'][there] == name] for name in names}
    store, small, skipped = ImageStore(rows), {}, []
    for number, name in enumerate(names):
        for other in names[number:]:
            if len(inside[name]) * len(inside[other]) > crop_pairs:
                skipped.append((name, other))
                continue
            for i, j, value in _crops(store, small, inside[name], inside[other], correlation):
                known = found.get((i, j), ('crop', 0.0))
                if known[0] == 'crop' and rows['exact'][i] != rows['exact'][j]:
                    found[i, j] = ('crop', max(value, known[1]))
    return [(*pair, *match) for pair, match in sorted(found.items())], skipped


def _crops(
    store: ImageStore, small: dict[int, np.ndarray], a: np.ndarray, b: np.ndarray, least: float
) -> Iterator[tuple[int, int, float]]:
    """(row, larger row, correlation) of each picture of `a` that is cut out of one of `b`, or so.

    `small` keeps the pictures of earlier calls.
    """
    for row in {*a.tolist(), *b.tolist()} - small.keys():
        small[row] = crops.gray(store.load([row])[0])
    both = ((a, b),) if a is b else ((a, b), (b, a))
    for wholes, parts in both:
        pictures = [[small[row] for row in rows.tolist()] for rows in (wholes, parts)]
        for i, j, value in crops.search(*pictures, least):
            if wholes[i] != parts[j]:
                yield *sorted((int(wholes[i]), int(parts[j]))), value
