#!/usr/bin/env bash
# One process on the CPU of this machine, with large arrays in huge pages.
#   launch/cpu.sh --config=configs/NAME.py --workdir=DIR
# XLA asks the system for the memory of a training step anew each time. In pages of 4 KiB that was
# a third of the step (docs/train.md); glibc asks for pages of 2 MiB instead, where Linux
# gives such on demand. Tunables of your own win.
set -euo pipefail

export JAX_PLATFORMS=cpu
export GLIBC_TUNABLES="glibc.malloc.hugetlb=1${GLIBC_TUNABLES:+:$GLIBC_TUNABLES}"
exec "${PYTHON:-python}" -m iqa_jax.main "$@"
