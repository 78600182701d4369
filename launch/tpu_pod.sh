#!/usr/bin/env bash
# The same command on every worker of a Cloud TPU slice; JAX finds the other workers itself.
#   TPU=NAME ZONE=us-central2-b launch/tpu_pod.sh --config=configs/NAME.py --workdir=/mnt/shared/DIR
# Before the first run, install the package on every worker:
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#     --command='pip install "iqa-jax-gmad[tpu]"'
# FOLDER is where configs/ lies on the workers. The workdir must be a folder that all of them share.
set -euo pipefail

: "${TPU:?set TPU to the name of the slice}" "${ZONE:?set ZONE to its zone}"
arguments=$(printf ' %q' "$@")
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
  --command="cd ${FOLDER:-iqa_jax} && python3 -m iqa_jax.main --distributed$arguments"
