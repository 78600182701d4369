"""Writes backbone_parity.npz: what the peers' own backbones give with random weights.

    pip install -e '.[test,parity]' && python tests/golden/make_backbone_parity.py [PEER ...]

Without names, all peers of tests/models/peers.py; a photograph and weights are those of
tests/models/parity.py.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'models'))

import parity
import peers


def main(names: list[str]) -> None:
    for peer in names or peers.PEERS:
        net = peers.build(peer)
        shapes = peers.shapes(net)
        peers.load(net, parity.random_state(shapes))
        maps = parity.summary(peers.run(peer, net, parity.photo()))
        parity.write({peer: (shapes, maps)})
        scales = np.array([x[0] for x in maps.values()])
        print(
            f'{peer}: {len(maps)} maps, root mean square {scales.min():.3g} to {scales.max():.3g}'
        )


if __name__ == '__main__':
    main(sys.argv[1:])
