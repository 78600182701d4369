#!/usr/bin/env bash
# One process on the CPU of this machine, with large arrays in huge pages.
#   launch/cpu.sh --config=configs/NAME.py --workdir=DIR
# Every step of a training asks the system for its memory anew: in pages of 4 KiB that is a fifth of
# its time (docs/train.md). glibc asks for pages of 2 MiB instead, where the system has them.
set -euo pipefail

export JAX_PLATFORMS=cpu
export GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1"
exec "${PYTHON:-python}" -m iqa_jax.main "$@"
