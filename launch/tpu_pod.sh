#!/usr/bin/env bash
# The same command on every worker of a Cloud TPU slice; JAX finds the other workers itself.
#   TPU=NAME ZONE=us-central2-b launch/tpu_pod.sh --config=configs/NAME.py --workdir=/mnt/shared/DIR
# Before the first run, put the checkout on every worker and install it there:
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#     --command='cd iqa_jax && pip install -e ".[tpu,pretrained]"'
# FOLDER is where the checkout lies on the workers. The workdir must be a folder that all of them share.
set -euo pipefail

: "${TPU:?set TPU to the name of the slice}" "${ZONE:?set ZONE to its zone}"
arguments=$(printf ' %q' "$@")
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
  --command="cd ${FOLDER:-iqa_jax} && python3 -m iqa_jax.main --distributed$arguments"
