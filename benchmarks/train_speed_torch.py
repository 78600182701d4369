"""The other side of train_speed.py: the same step as one would write it in PyTorch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != features:
            conv = nn.Conv2d(inputs, features, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)


class Network(nn.Module):
    """ResNet-18, global average, unit length, one linear output: [N,3,H,W] in [0,1] -> [N]."""

    def __init__(self):
        super().__init__()
        stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        blocks = [stem, nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
        for inputs, features, stride in [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]:
            blocks += [Block(inputs, features, stride), Block(features, features, 1)]
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(512, 1)
        self.register_buffer('mean', torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer('std', torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.body((x - self.mean) / self.std)
        return self.head(functional.normalize(maps.mean((2, 3))))[:, 0]


def probability(gap: torch.Tensor) -> torch.Tensor:
    """Phi(gap / sqrt 2), Thurstone's probability at unit spreads."""
    return (1 + torch.erf(gap / 2)) / 2


def fidelity(score: torch.Tensor, opinion: torch.Tensor) -> torch.Tensor:
    """Mean fidelity loss of the pairs (i, i + N/2)."""
    p, g = (probability(x[: len(x) // 2] - x[len(x) // 2 :]) for x in (score, opinion))
    return (1 - torch.sqrt(p * g + 1e-8) - torch.sqrt((1 - p) * (1 - g) + 1e-8)).mean()


def magnitude_mask(network: nn.Module, ratio: float) -> dict[str, torch.Tensor]:
    """0 where a convolution weight is among the smallest `ratio` of them all, 1 elsewhere."""
    kernels = {name: w.detach() for name, w in network.named_parameters() if w.ndim == 4}
    sizes = torch.cat([w.abs().ravel() for w in kernels.values()])
    threshold = torch.sort(sizes).values[int(ratio * len(sizes))]
    return {name: (w.abs() >= threshold).float() for name, w in kernels.items()}


def calls(
    batch: dict[str, np.ndarray],
    scored: np.ndarray,
    ohem: dict,
    optimizer: dict,
    rate: float,
    threads: int,
) -> dict[str, Callable]:
    """The calls of the comparison by name; each runs once and waits for its result.

    batch: images uint8 [N,H,W,3] and targets [N,1]; scored: images float32 [N,H,W,3] in [0,1].
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = Network()
    images = torch.from_numpy(batch['image']).permute(0, 3, 1, 2).contiguous()
    opinion = torch.from_numpy(batch['target'][:, 0])
    whole = torch.from_numpy(scored).permute(0, 3, 1, 2).contiguous()
    mask = magnitude_mask(network, ohem['ratio'])
    adam = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=optimizer['weight_decay'])

    def step(twin: bool) -> float:
        network.train()
        adam.zero_grad()
        x = images.float() / 255
        score = network(x)
        loss = fidelity(score, opinion)
        if twin:
            parameters = dict(network.named_parameters())
            masked = {name: w * mask[name] for name, w in parameters.items() if name in mask}
            other = torch.func.functional_call(network, {**parameters, **masked}, (x,))
            consistency = (score - other).square().mean()
            loss = loss + ohem['twin_weight'] * fidelity(other, opinion)
            loss = loss + ohem['consistency_weight'] * consistency
        loss.backward()
        adam.step()
        return loss.item()

    def score() -> np.ndarray:
        network.eval()
        with torch.no_grad():
            return network(whole).numpy()

    return {'step': lambda: step(False), 'twin': lambda: step(True), 'score': score}
