"""What published networks do to a picture in [0, 1] first; weights are right with their own."""

import jax
import jax.numpy as jnp

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PREPROCESS = {
    'none': lambda x: x,
    # torchvision, and timm unless a model says otherwise
    'imagenet': lambda x: (x - jnp.asarray(IMAGENET_MEAN)) / jnp.asarray(IMAGENET_STD),
    # TensorFlow's 'tf' mode, which timm states for its tf_ models
    'half': lambda x: (x - 0.5) / 0.5,
    # EfficientNet-Lite as trained by its authors: up to 0.4 % of the range off 'half'
    'lite': lambda x: (x * 255.0 - 127.0) / 128.0,
}


def preprocess(images: jax.Array, kind: str) -> jax.Array:
    """Pictures [N,H,W,3] float32 in [0,1] -> what the weights of that kind expect."""
    return PREPROCESS[kind](images)
