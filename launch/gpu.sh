#!/usr/bin/env bash
# One process that uses every GPU of this machine.
#   launch/gpu.sh --config=configs/NAME.py --workdir=DIR
# DETERMINISTIC=1 makes two runs equal bit for bit; XLA then avoids its fastest kernels.
set -euo pipefail

export JAX_PLATFORMS=cuda
if [[ "${DETERMINISTIC:-0}" == 1 ]]; then
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true"
fi
exec "${PYTHON:-python}" -m iqa_jax.main "$@"
